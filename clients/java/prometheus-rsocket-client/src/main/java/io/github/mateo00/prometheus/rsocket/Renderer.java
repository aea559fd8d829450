package io.github.mateo00.prometheus.rsocket;

import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** Renders the application's text, a few at a time. */
final class Renderer {

  /** Texts rendered at a time. A supplier that never returns can hold up this many threads, not more. */
  static final int MAX_RENDERS = 4;

  private static final String TEXT = "text/plain; version=0.0.4; charset=utf-8";
  private static final String OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8";
  private static final int FIRST_SIZE = 16 << 10;

  private final Supplier<String> scrape;
  private final List<PrometheusMeterRegistry> registries;
  private final String contentType;
  private final Semaphore permits = new Semaphore(MAX_RENDERS);
  /** How long the last text was: the next one is about as long. */
  private volatile int lastSize = FIRST_SIZE;

  Renderer(Settings settings) {
    scrape = settings.scrape;
    registries = List.copyOf(settings.registries);
    contentType = settings.openMetrics ? OPEN_METRICS : TEXT;
  }

  /** Takes a permit to render, if not too much is being rendered already. */
  boolean tryAcquire() {
    return permits.tryAcquire();
  }

  /** Takes a permit to render, as soon as there is one. */
  boolean tryAcquire(long nanos) throws InterruptedException {
    return permits.tryAcquire(nanos, TimeUnit.NANOSECONDS);
  }

  /** Gives a permit back that was not used. */
  void release() {
    permits.release();
  }

  /** Renders, which may take its time and fail in any way, and gives the permit back. */
  Text render() throws IOException {
    try {
      return text();
    } finally {
      permits.release();
    }
  }

  private Text text() throws IOException {
    if (registries.isEmpty()) {
      return Text.of(scrape.get());
    }
    Buffer buffer = new Buffer(lastSize + lastSize / 8);
    boolean openMetrics = false;
    if (scrape != null) {
      buffer.writeBytes(scrape.get().getBytes(StandardCharsets.UTF_8));
      openMetrics = buffer.endPart();
    }
    for (PrometheusMeterRegistry registry : registries) {
      registry.scrape(buffer, contentType);
      openMetrics |= buffer.endPart();
    }
    if (openMetrics) {
      buffer.writeBytes(Buffer.EOF);
    }
    lastSize = buffer.size();
    return buffer.text();
  }

  /** Texts, one behind the other. */
  private static final class Buffer extends ByteArrayOutputStream {

    private static final byte[] EOF = "# EOF\n".getBytes(StandardCharsets.US_ASCII);

    Buffer(int size) {
      super(size);
    }

    /** Takes away the line that ends an OpenMetrics text: whether there was one. */
    boolean endPart() {
      if (count > 0 && buf[count - 1] != '\n') {
        write('\n');
      }
      int begin = count - EOF.length;
      boolean ended = begin >= 0
          && Arrays.equals(buf, begin, count, EOF, 0, EOF.length)
          && (begin == 0 || buf[begin - 1] == '\n');
      if (ended) {
        count = begin;
      }
      return ended;
    }

    Text text() {
      return new Text(buf, count);
    }
  }
}
