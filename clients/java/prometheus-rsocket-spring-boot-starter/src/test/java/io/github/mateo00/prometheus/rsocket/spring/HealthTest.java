package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.springframework.boot.actuate.health.Health;
import org.springframework.boot.actuate.health.HealthIndicator;
import org.springframework.boot.actuate.health.Status;
import org.springframework.context.ApplicationContext;

/** What the application's health says about the connection. */
class HealthTest {

  private static final String NAME = "prometheusRSocketHealthIndicator";

  @Test
  void healthIsUpWithTheProxyOnceConnectedAndUnknownWithTheReasonAfterwards() {
    try (TestProxy proxy = new TestProxy()) {
      Contexts.withMetrics().withPropertyValues(proxy.property(), "micrometer.prometheus.rsocket.push-on-shutdown=false")
          .run(context -> {
            Contexts.awaitConnected(context, true);
            assertThat(health(context)).isEqualTo(Health.up().withDetail("proxy", proxy.address()).build());

            proxy.close();
            Contexts.awaitConnected(context, false);
            assertThat(health(context).getStatus()).isEqualTo(Status.UNKNOWN);
            assertThat(health(context).getDetails()).containsOnlyKeys("reason");
          });
    }
  }

  @Test
  void healthSaysNothingWhereThatIsNotWanted() {
    Contexts.withMetrics()
        .withPropertyValues("management.health.prometheusrsocket.enabled=false",
            "micrometer.prometheus.rsocket.push-on-shutdown=false")
        .run(context -> assertThat(context).doesNotHaveBean(NAME));
  }

  private static Health health(ApplicationContext context) {
    return context.getBean(NAME, HealthIndicator.class).health();
  }
}
