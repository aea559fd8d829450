package io.github.mateo00.prometheus.rsocket.spring;

import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Lazy;
import org.springframework.core.env.Environment;
import org.springframework.util.ClassUtils;

/** Says why there is no client, which would otherwise be noticed only when the metrics are missing. */
@AutoConfiguration(after = PrometheusRSocketAutoConfiguration.class)
@ConditionalOnMissingBean(type = "io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient")
@Lazy(false)
class BackOffAutoConfiguration {

  private static final Logger LOG = LoggerFactory.getLogger(BackOffAutoConfiguration.class);

  BackOffAutoConfiguration(ApplicationContext context) {
    LOG.info("No connection to a Prometheus RSocket proxy is made: {}", reason(context));
  }

  private static String reason(ApplicationContext context) {
    Environment environment = context.getEnvironment();
    String enabled = Prefix.name(environment, "enabled");
    if ("false".equalsIgnoreCase(environment.getProperty(enabled))) {
      return enabled + " is false";
    }
    if (!ClassUtils.isPresent("io.micrometer.prometheusmetrics.PrometheusMeterRegistry", context.getClassLoader())) {
      return "micrometer-registry-prometheus 1.13 or newer is not on the class path. Spring Boot 3.3 and newer manage it";
    }
    if (context.getBeanNamesForType(PrometheusMeterRegistry.class).length > 0) {
      return "its auto-configuration is excluded";
    }
    for (String export : new String[] {"management.prometheus.metrics.export.enabled",
        "management.defaults.metrics.export.enabled"}) {
      if ("false".equalsIgnoreCase(environment.getProperty(export))) {
        return export + " is false, so there is no PrometheusMeterRegistry";
      }
    }
    return "there is no bean of type io.micrometer.prometheusmetrics.PrometheusMeterRegistry. "
        + "spring-boot-starter-actuator makes one, unless its auto-configuration is excluded";
  }
}
