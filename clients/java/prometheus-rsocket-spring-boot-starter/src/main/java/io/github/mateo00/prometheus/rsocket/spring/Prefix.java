package io.github.mateo00.prometheus.rsocket.spring;

import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;
import org.springframework.boot.context.properties.source.InvalidConfigurationPropertyValueException;
import org.springframework.core.env.Environment;
import org.springframework.util.StringUtils;

/** What the names of all properties begin with. */
final class Prefix {

  /** Of version 2.0 of the published starter. What it says replaces what the other one says. */
  static final String PREFERRED = "micrometer.prometheus.rsocket";

  /** Of version 1.5 of the published starter. */
  static final String PUBLISHED = "management.metrics.export.prometheus.rsocket";

  /** Whether the starter is to do anything, as an expression. */
  static final String ENABLED =
      "'${" + PREFERRED + ".enabled:${" + PUBLISHED + ".enabled:true}}'.toLowerCase() != 'false'";

  private Prefix() {}

  /** The name by which the environment has a property; with the preferred prefix if it has it by neither. */
  static String name(Environment environment, String property) {
    String list = property.replaceFirst("\\[.*", "");
    return Stream.of(property, list)
        .flatMap(name -> Stream.of(PREFERRED + "." + name, PUBLISHED + "." + name))
        .filter(environment::containsProperty)
        .findFirst()
        .orElse(PREFERRED + "." + property);
  }

  /** Spring Boot tells this in words, with the place where the property is set. */
  static InvalidConfigurationPropertyValueException invalid(Environment environment, String property, Object value,
      String reason) {
    return new InvalidConfigurationPropertyValueException(name(environment, property), value, reason);
  }

  /** A value that is more than an empty placeholder. */
  static Optional<String> given(String value) {
    return Optional.ofNullable(value).filter(StringUtils::hasText);
  }

  /** Whether the value of a property, however its name is spelled, is a secret. */
  static boolean isSecret(String key) {
    String name = key.toLowerCase(Locale.ROOT).replaceAll("[^a-z]", "");
    return name.endsWith("prometheusrsocketpassword") || name.endsWith("prometheusrsocketbearertoken");
  }
}
