package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import java.util.function.BooleanSupplier;
import org.springframework.boot.actuate.autoconfigure.health.HealthContributorAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.CompositeMeterRegistryAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.MetricsAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.export.prometheus.PrometheusMetricsExportAutoConfiguration;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.ssl.SslAutoConfiguration;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.ApplicationContext;

/** Contexts as Spring Boot makes them, with what the starter brings. */
final class Contexts {

  static final AutoConfigurations STARTER = AutoConfigurations.of(PrometheusRSocketAutoConfiguration.class,
      BackOffAutoConfiguration.class, Boot3HealthAutoConfiguration.class, Boot4HealthAutoConfiguration.class);
  static final AutoConfigurations METRICS = AutoConfigurations.of(MetricsAutoConfiguration.class,
      CompositeMeterRegistryAutoConfiguration.class, PrometheusMetricsExportAutoConfiguration.class,
      HealthContributorAutoConfiguration.class, SslAutoConfiguration.class);

  private Contexts() {}

  static ApplicationContextRunner withMetrics() {
    return new ApplicationContextRunner().withConfiguration(METRICS).withConfiguration(STARTER);
  }

  /** Waits until the client is connected, or knows why it is not. */
  static void awaitConnected(ApplicationContext context, boolean connected) throws InterruptedException {
    PrometheusRSocketClient client = context.getBean(PrometheusRSocketClient.class);
    BooleanSupplier come = connected ? client::isConnected : () -> client.lastFailure().isPresent();
    for (int i = 0; i < 3000 && !come.getAsBoolean(); i++) {
      Thread.sleep(10);
    }
    assertThat(come.getAsBoolean()).isTrue();
  }
}
