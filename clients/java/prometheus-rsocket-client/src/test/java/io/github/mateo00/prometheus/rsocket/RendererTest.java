package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.micrometer.core.instrument.Counter;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.prometheus.metrics.model.registry.PrometheusRegistry;
import io.prometheus.metrics.tracer.common.SpanContext;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class RendererTest {

  private static final io.rsocket.transport.ClientTransport NOWHERE = ProxyTransport.of("tcp://localhost:1");

  /** Registries of one counter each. */
  private static Settings settings(String... counters) {
    Settings settings = new Settings(NOWHERE);
    for (String name : counters) {
      PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
      registry.counter(name).increment();
      settings.registries.add(registry);
    }
    return settings;
  }

  private static String render(Settings settings) throws Exception {
    Renderer renderer = new Renderer(settings);
    assertTrue(renderer.tryAcquire());
    Text text = renderer.render();
    return new String(text.bytes(), 0, text.length(), StandardCharsets.UTF_8);
  }

  private static String counter(String name) {
    return "# HELP " + name + "_total  \n# TYPE " + name + "_total counter\n" + name + "_total 1.0\n";
  }

  private static String openMetricsCounter(String name) {
    return "# TYPE " + name + " counter\n# HELP " + name + "  \n" + name + "_total 1.0\n";
  }

  @Test
  void registriesFollowOneAnother() throws Exception {
    assertEquals(counter("one") + counter("two"), render(settings("one", "two")));
  }

  @Test
  void openMetricsEndsOnce() throws Exception {
    Settings settings = settings("one", "two");
    settings.openMetrics = true;
    assertEquals(openMetricsCounter("one") + openMetricsCounter("two") + "# EOF\n", render(settings));
  }

  @Test
  void aTextOfTheApplicationStaysAsItIs() throws Exception {
    for (String text : new String[] {"", "up 1", "up 1\n", "up 1\n# EOF\n"}) {
      Settings settings = new Settings(NOWHERE);
      settings.scrape = () -> text;
      assertEquals(text, render(settings));
    }
  }

  @Test
  void registriesFollowATextOfTheApplication() throws Exception {
    Settings settings = settings("one");
    settings.scrape = () -> "up 1";
    assertEquals("up 1\n" + counter("one"), render(settings));
  }

  @Test
  void openMetricsHasExemplars() throws Exception {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(
        PrometheusConfig.DEFAULT, new PrometheusRegistry(), io.micrometer.core.instrument.Clock.SYSTEM, new Span());
    Counter.builder("one").register(registry).increment();
    Settings settings = new Settings(NOWHERE);
    settings.registries.add(registry);
    settings.openMetrics = true;
    String text = render(settings);
    assertTrue(text.contains("one_total 1.0 # {span_id=\"b\",trace_id=\"a\"} 1.0 "), text);
  }

  /** A span that is always sampled. */
  private static final class Span implements SpanContext {
    @Override
    public String getCurrentTraceId() {
      return "a";
    }

    @Override
    public String getCurrentSpanId() {
      return "b";
    }

    @Override
    public boolean isCurrentSpanSampled() {
      return true;
    }

    @Override
    public void markCurrentSpanAsExemplar() {}
  }
}
