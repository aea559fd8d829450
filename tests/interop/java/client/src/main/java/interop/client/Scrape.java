package interop.client;

import interop.common.Args;
import io.prometheus.client.exporter.common.TextFormat;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** The text for a pull or a push. It is made on the client's event loop, which `--hang` and `--slow` block. */
final class Scrape implements Supplier<String> {
  private final Metrics metrics;
  private final String contentType;
  private final String file;
  private final long delayMillis;

  Scrape(Metrics metrics, Args args) {
    this.metrics = metrics;
    this.contentType = args.has("--openmetrics") ? TextFormat.CONTENT_TYPE_OPENMETRICS_100 : TextFormat.CONTENT_TYPE_004;
    this.file = args.text("--text", null);
    this.delayMillis = args.has("--hang") ? TimeUnit.DAYS.toMillis(365) : args.number("--slow", 0);
  }

  @Override
  public String get() {
    try {
      TimeUnit.MILLISECONDS.sleep(delayMillis);
      return file == null ? metrics.scrape(contentType) : Files.readString(Path.of(file));
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
