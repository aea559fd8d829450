package io.github.mateo00.prometheus.rsocket;

import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.rsocket.DuplexConnection;
import io.rsocket.Payload;
import io.rsocket.transport.ClientTransport;
import io.rsocket.util.DefaultPayload;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.lang.reflect.Method;
import java.security.KeyPairGenerator;
import java.security.PublicKey;
import java.util.OptionalLong;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import reactor.core.publisher.Mono;

/** What an answered pull costs the application, from registry to payload: the published client beside this one. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 5)
@Measurement(iterations = 1, time = 10)
public class PullBenchmark {

  /** Version 2 is this client with a proxy of its age, version 1 this client with an old proxy. */
  @Param({"published", "version1", "version2"})
  public String client;

  @Param({"100", "1000"})
  public int series;

  /** A registry, or a text that is there already, which leaves the envelope alone. */
  @Param({"registry", "text"})
  public String source;

  private Callable<Payload> answer;

  @Setup
  public void setup() throws Exception {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    for (int i = 0; i < series; i++) {
      registry.counter("http.server.requests", "method", "GET", "status", "200", "uri", "/items/" + i).increment(i);
    }
    KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
    generator.initialize(2048);
    PublicKey key = generator.generateKeyPair().getPublic();
    answer = client.equals("published") ? published(registry, key) : ours(registry, key);
  }

  private Callable<Payload> published(PrometheusMeterRegistry registry, PublicKey key) throws Exception {
    String text = registry.scrape();
    ClientTransport nowhere = new ClientTransport() {
      @Override
      public Mono<DuplexConnection> connect() {
        return Mono.never();
      }
    };
    var published = io.micrometer.prometheus.rsocket.PrometheusRSocketClient.build(
        new SimpleMeterRegistry(), source.equals("text") ? () -> text : registry::scrape, nowhere).connect();
    Method scrapePayload = published.getClass().getDeclaredMethod("scrapePayload", PublicKey.class);
    scrapePayload.setAccessible(true);
    return () -> (Payload) scrapePayload.invoke(published, key);
  }

  private Callable<Payload> ours(PrometheusMeterRegistry registry, PublicKey key) throws Exception {
    Settings settings = new Settings(ProxyTransport.of("tcp://nowhere:1"));
    if (source.equals("text")) {
      String text = registry.scrape();
      settings.scrape = () -> text;
    } else {
      settings.registries.add(registry);
    }
    Renderer renderer = new Renderer(settings);
    boolean version2 = client.equals("version2");
    Announcement announcement =
        new Announcement(true, version2, new byte[Announcement.TOKEN_BYTES], OptionalLong.of(1));
    Sealing sealing = new Sealing(version2, System::nanoTime);
    sealing.take(key.getEncoded(), announcement);
    return () -> {
      renderer.tryAcquire();
      Sealed sealed = sealing.forAnswer(announcement).seal(renderer.render());
      return DefaultPayload.create(sealed.data(), sealed.metadata());
    };
  }

  @Benchmark
  public Payload pull(Cpu cpu) throws Exception {
    cpu.pulls++;
    return answer.call();
  }

  /**
   * The thread's CPU time, which other processes disturb less than the time on the clock. JMH adds up what the
   * iterations say, so there is one.
   */
  @State(Scope.Thread)
  @AuxCounters(AuxCounters.Type.EVENTS)
  public static class Cpu {

    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private long began;
    private long nanos;
    private long pulls;

    @Setup(Level.Iteration)
    public void begin() {
      began = THREADS.getCurrentThreadCpuTime();
      pulls = 0;
    }

    @TearDown(Level.Iteration)
    public void end() {
      nanos = THREADS.getCurrentThreadCpuTime() - began;
    }

    /** Microseconds for each pull. */
    public double cpu() {
      return nanos / 1e3 / pulls;
    }
  }
}
