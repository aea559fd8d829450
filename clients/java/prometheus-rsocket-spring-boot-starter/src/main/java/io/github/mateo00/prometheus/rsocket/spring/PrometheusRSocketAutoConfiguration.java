package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.beans.factory.annotation.Qualifier;
import org.springframework.boot.actuate.endpoint.SanitizingFunction;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnExpression;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnNotWarDeployment;
import org.springframework.boot.autoconfigure.condition.ConditionalOnWebApplication;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.ssl.DefaultSslBundleRegistry;
import org.springframework.boot.ssl.SslBundles;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Lazy;
import org.springframework.core.env.Environment;

/** Connects the application's Prometheus registries to a proxy, unless the application makes a client itself. */
@AutoConfiguration(afterName = {
    // Spring Boot 3 and 4.
    "org.springframework.boot.actuate.autoconfigure.metrics.export.prometheus.PrometheusMetricsExportAutoConfiguration",
    "org.springframework.boot.micrometer.metrics.autoconfigure.export.prometheus.PrometheusMetricsExportAutoConfiguration"})
@ConditionalOnClass(PrometheusMeterRegistry.class)
@ConditionalOnBean(PrometheusMeterRegistry.class)
@ConditionalOnMissingBean(PrometheusRSocketClient.class)
@ConditionalOnExpression(Prefix.ENABLED)
public class PrometheusRSocketAutoConfiguration {

  /** Called by Spring. */
  public PrometheusRSocketAutoConfiguration() {}

  @Bean
  static ShutdownPush prometheusRSocketShutdownPush() {
    return new ShutdownPush();
  }

  @Bean
  @ConfigurationProperties(Prefix.PUBLISHED)
  PrometheusRSocketProperties publishedPrometheusRSocketProperties() {
    return new PrometheusRSocketProperties();
  }

  /** The same object, so that what the second prefix says replaces what the first one does. */
  @Bean
  @ConfigurationProperties(Prefix.PREFERRED)
  PrometheusRSocketProperties prometheusRSocketProperties(
      @Qualifier("publishedPrometheusRSocketProperties") PrometheusRSocketProperties published) {
    return published;
  }

  /**
   * Made also where beans are lazy: no other bean needs it. {@link ShutdownPush} closes it. Spring would do so too early;
   * it is given a method that does nothing, because ahead-of-time processing loses an empty name.
   */
  @Bean(destroyMethod = "isConnected")
  @Lazy(false)
  PrometheusRSocketClient prometheusRSocketClient(
      @Qualifier("prometheusRSocketProperties") PrometheusRSocketProperties properties,
      ObjectProvider<PrometheusMeterRegistry> registries, ObjectProvider<SslBundles> bundles,
      ObjectProvider<DefaultInstance> instance, ShutdownPush push, Environment environment) {
    PrometheusRSocketClient client = new ClientFactory(properties, environment)
        .builder(registries.orderedStream().toList(), bundles.getIfAvailable(DefaultSslBundleRegistry::new),
            instance.stream().findAny().flatMap(DefaultInstance::name))
        .connect();
    push.of(client, properties.isPushOnShutdown());
    return client;
  }

  @Bean
  @Lazy(false)
  StartReport prometheusRSocketStartReport(PrometheusRSocketClient client) {
    return new StartReport(client);
  }

  @Configuration(proxyBeanMethods = false)
  @ConditionalOnWebApplication
  @ConditionalOnNotWarDeployment
  static class WebConfiguration {

    @Bean
    DefaultInstance prometheusRSocketDefaultInstance(Environment environment) {
      return DefaultInstance.of(environment);
    }
  }

  @Configuration(proxyBeanMethods = false)
  @ConditionalOnClass(SanitizingFunction.class)
  static class SanitizingConfiguration {

    @Bean
    SanitizingFunction prometheusRSocketSanitizingFunction() {
      return data -> Prefix.isSecret(data.getKey()) ? data.withSanitizedValue() : data;
    }
  }
}
