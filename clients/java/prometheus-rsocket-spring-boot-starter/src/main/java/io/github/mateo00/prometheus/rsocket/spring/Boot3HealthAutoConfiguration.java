package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import org.springframework.boot.actuate.autoconfigure.health.ConditionalOnEnabledHealthIndicator;
import org.springframework.boot.actuate.health.Health;
import org.springframework.boot.actuate.health.HealthIndicator;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.context.annotation.Bean;

/** The health contributor where Spring Boot is 3. It is never DOWN: a service works without its metrics. */
@AutoConfiguration(after = PrometheusRSocketAutoConfiguration.class)
@ConditionalOnClass(name = "org.springframework.boot.actuate.health.HealthIndicator")
@ConditionalOnBean(PrometheusRSocketClient.class)
@ConditionalOnEnabledHealthIndicator("prometheusrsocket")
class Boot3HealthAutoConfiguration {

  @Bean
  HealthIndicator prometheusRSocketHealthIndicator(PrometheusRSocketClient client) {
    return () -> health(client).build();
  }

  private static Health.Builder health(PrometheusRSocketClient client) {
    return client.proxy()
        .map(proxy -> Health.up().withDetail("proxy", proxy))
        .orElseGet(() -> Health.unknown().withDetail("reason", client.lastFailure().orElse("not connected yet")));
  }
}
