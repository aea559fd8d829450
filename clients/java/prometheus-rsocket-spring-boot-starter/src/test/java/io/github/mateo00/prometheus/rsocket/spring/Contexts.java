package io.github.mateo00.prometheus.rsocket.spring;

import org.springframework.boot.actuate.autoconfigure.health.HealthContributorAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.CompositeMeterRegistryAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.MetricsAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.export.prometheus.PrometheusMetricsExportAutoConfiguration;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.ssl.SslAutoConfiguration;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;

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
}
