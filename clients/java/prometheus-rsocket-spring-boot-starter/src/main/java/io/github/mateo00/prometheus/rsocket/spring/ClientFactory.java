package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.rsocket.transport.ClientTransport;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import org.springframework.boot.context.properties.source.MutuallyExclusiveConfigurationPropertiesException;
import org.springframework.boot.ssl.SslBundles;
import org.springframework.core.env.Environment;

/** Makes a client as the properties say. */
final class ClientFactory {

  private final PrometheusRSocketProperties properties;
  private final Environment environment;

  ClientFactory(PrometheusRSocketProperties properties, Environment environment) {
    this.properties = properties;
    this.environment = environment;
  }

  PrometheusRSocketClient.Builder builder(List<PrometheusMeterRegistry> registries, SslBundles bundles,
      Optional<String> defaultInstance) {
    checkTimes();
    List<ClientTransport> transports = new TransportFactory(properties, environment, bundles).transports();
    PrometheusRSocketClient.Builder builder = PrometheusRSocketClient.build(registries.get(0), transports.get(0));
    registries.stream().skip(1).forEach(builder::registry);
    transports.stream().skip(1).forEach(builder::proxy);
    times(builder);
    credentials(builder);
    Prefix.given(properties.getJob()).or(this::applicationName).ifPresent(builder::job);
    Prefix.given(properties.getInstance()).or(() -> defaultInstance).ifPresent(builder::instance);
    builder.labels(properties.getLabels());
    if (properties.isForbidDowngrade()) {
      builder.forbidDowngrade();
    }
    return builder.openMetrics(properties.isOpenMetrics());
  }

  private Optional<String> applicationName() {
    return Prefix.given(environment.getProperty("spring.application.name"));
  }

  private void checkTimes() {
    if (properties.getMaxRetries() < 0) {
      throw Prefix.invalid(environment, "max-retries", properties.getMaxRetries(), "It cannot be negative.");
    }
    atLeast("first-backoff", properties.getFirstBackoff(), Duration.ofMillis(1), "1 ms");
    atLeast("max-backoff", properties.getMaxBackoff(), properties.getFirstBackoff(), "first-backoff");
    atLeast("connect-timeout", properties.getConnectTimeout(), Duration.ofMillis(1), "1 ms");
    atLeast("push-timeout", properties.getPushTimeout(), Duration.ofMillis(1), "1 ms");
    atLeast("keepalive", properties.getKeepalive(), Duration.ofMillis(1), "1 ms");
    atLeast("max-lifetime", properties.getMaxLifetime(), properties.getKeepalive(), "keepalive");
  }

  private void times(PrometheusRSocketClient.Builder builder) {
    builder.maxRetries(properties.getMaxRetries())
        .backoff(properties.getFirstBackoff(), properties.getMaxBackoff())
        .connectTimeout(properties.getConnectTimeout())
        .pushTimeout(properties.getPushTimeout())
        .keepAlive(properties.getKeepalive(), properties.getMaxLifetime());
  }

  private void atLeast(String property, Duration value, Duration least, String name) {
    if (value.compareTo(least) < 0) {
      throw Prefix.invalid(environment, property, value,
          "It has to be at least " + name + ". A number without a unit is in milliseconds.");
    }
  }

  private void credentials(PrometheusRSocketClient.Builder builder) {
    Optional<String> token = Prefix.given(properties.getBearerToken());
    Optional<String> password = Prefix.given(properties.getPassword());
    Optional<String> user = Prefix.given(properties.getUsername());
    Optional<Path> tokenFile = Prefix.given(properties.getBearerTokenFile()).map(Path::of);
    Optional<Path> passwordFile = Prefix.given(properties.getPasswordFile()).map(Path::of);
    MutuallyExclusiveConfigurationPropertiesException.throwIfMultipleNonNullValuesIn(entries -> {
      entries.put(Prefix.name(environment, "bearer-token"), token.orElse(null));
      entries.put(Prefix.name(environment, "bearer-token-file"), tokenFile.orElse(null));
      entries.put(Prefix.name(environment, "password"), password.orElse(null));
      entries.put(Prefix.name(environment, "password-file"), passwordFile.orElse(null));
    });
    if (user.isPresent() != (password.isPresent() || passwordFile.isPresent())) {
      throw Prefix.invalid(environment, "username", user.orElse(null), "Set it together with password or password-file.");
    }
    token.ifPresent(secret -> builder.bearerToken(() -> secret));
    tokenFile.ifPresent(builder::bearerTokenFile);
    password.ifPresent(secret -> builder.password(user.orElseThrow(), () -> secret));
    passwordFile.ifPresent(file -> builder.passwordFile(user.orElseThrow(), file));
  }
}
