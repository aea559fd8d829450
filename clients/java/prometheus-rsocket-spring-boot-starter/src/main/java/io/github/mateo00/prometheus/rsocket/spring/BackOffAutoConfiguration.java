package io.github.mateo00.prometheus.rsocket.spring;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.annotation.Lazy;
import org.springframework.core.env.Environment;
import org.springframework.core.io.ResourceLoader;
import org.springframework.util.ClassUtils;

/** Says why there is no client, which would otherwise be noticed only when the metrics are missing. */
@AutoConfiguration(after = PrometheusRSocketAutoConfiguration.class)
@ConditionalOnMissingBean(type = "io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient")
@Lazy(false)
public class BackOffAutoConfiguration {

  private static final Logger LOG = LoggerFactory.getLogger(BackOffAutoConfiguration.class);

  BackOffAutoConfiguration(Environment environment, ResourceLoader resources) {
    LOG.info("No connection to a Prometheus RSocket proxy is made: {}", reason(environment, resources.getClassLoader()));
  }

  private static String reason(Environment environment, ClassLoader classes) {
    String enabled = Prefix.name(environment, "enabled");
    if ("false".equalsIgnoreCase(environment.getProperty(enabled))) {
      return enabled + " is false";
    }
    if (!ClassUtils.isPresent("io.micrometer.prometheusmetrics.PrometheusMeterRegistry", classes)) {
      return "micrometer-registry-prometheus 1.13 or newer is not on the class path. Spring Boot 3.3 and newer manage it";
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
