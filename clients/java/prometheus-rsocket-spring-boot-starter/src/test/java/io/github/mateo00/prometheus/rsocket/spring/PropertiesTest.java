package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import java.time.Duration;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.springframework.boot.context.properties.source.InvalidConfigurationPropertyValueException;
import org.springframework.boot.context.properties.source.MutuallyExclusiveConfigurationPropertiesException;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.ApplicationContext;
import org.springframework.mock.env.MockEnvironment;

/** What the properties do, under each of the two prefixes and under both. */
class PropertiesTest {

  private static final String PREFERRED = "micrometer.prometheus.rsocket.";
  private static final String PUBLISHED = "management.metrics.export.prometheus.rsocket.";

  private final ApplicationContextRunner contexts = Contexts.withMetrics()
      .withPropertyValues(PREFERRED + "push-on-shutdown=false");

  @Test
  void propertiesOfThePublishedStarterMeanWhatTheyMeant() {
    contexts.withPropertyValues(PUBLISHED + "host=proxy", PUBLISHED + "port=443", PUBLISHED + "transport=websocket",
            PUBLISHED + "secure=true", PUBLISHED + "max-retries=3", PUBLISHED + "first-backoff=1s",
            PUBLISHED + "max-backoff=2m")
        .run(context -> {
          PrometheusRSocketProperties properties = of(context);
          assertThat(properties.getHost()).isEqualTo("proxy");
          assertThat(properties.getPort()).isEqualTo(443);
          assertThat(properties.getTransport()).isEqualTo(PrometheusRSocketProperties.Transport.WEBSOCKET);
          assertThat(properties.isSecure()).isTrue();
          assertThat(properties.getMaxRetries()).isEqualTo(3);
          assertThat(properties.getFirstBackoff()).isEqualTo(Duration.ofSeconds(1));
          assertThat(properties.getMaxBackoff()).isEqualTo(Duration.ofMinutes(2));
        });
  }

  @Test
  void whatThePreferredPrefixSaysReplacesWhatThePublishedOneSays() {
    contexts.withPropertyValues(PUBLISHED + "host=old", PUBLISHED + "port=1", PUBLISHED + "proxies=tcp://a:1,tcp://b:1",
            PREFERRED + "host=new", PREFERRED + "proxies=tcp://c:1")
        .run(context -> {
          assertThat(of(context).getHost()).isEqualTo("new");
          assertThat(of(context).getPort()).isEqualTo(1);
          assertThat(of(context).getProxies()).isEqualTo(List.of("tcp://c:1"));
        });
  }

  @ParameterizedTest
  @CsvSource({"false,,false", ",FALSE,false", "false,true,true", "true,false,false", ",,true"})
  void theStarterIsOnUnlessAPropertySaysOtherwise(String published, String preferred, boolean on) {
    String[] given = Stream.of(PUBLISHED + "enabled=" + published, PREFERRED + "enabled=" + preferred)
        .filter(property -> !property.endsWith("null"))
        .toArray(String[]::new);
    contexts.withPropertyValues(given).run(context ->
        assertThat(context.getBeansOfType(PrometheusRSocketClient.class)).hasSize(on ? 1 : 0));
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      port=0                                        | port             | between 1 and 65535
      host=a b                                      | host             | HOST:PORT
      proxies=tcp://a:1,http://b:2                  | proxies          | tcp://, tls://, ws:// or wss://
      proxies[0]=proxy                              | proxies[0]       | tcp://, tls://, ws:// or wss://
      max-retries=-1                                | max-retries      | negative
      first-backoff=0                               | first-backoff    | at least 1 ms
      max-backoff=9s                                | max-backoff      | at least first-backoff
      max-lifetime=1s                               | max-lifetime     | at least keepalive
      push-timeout=0s                               | push-timeout     | at least 1 ms
      connect-timeout=-1s                           | connect-timeout  | at least 1 ms
      username=shop                                 | username         | together with password or password-file
      ssl.bundle=proxy                              | ssl.bundle       | no bundle of this name
      ssl.ca-file=/ca.pem                           | ssl.ca-file      | no effect without TLS
      """)
  void aWrongValueEndsTheStartWithTheNameOfThePropertyAndWhatToDo(String given, String name, String reason) {
    for (String prefix : List.of(PREFERRED, PUBLISHED)) {
      contexts.withPropertyValues(prefix + given).run(context -> {
        assertThat(context).hasFailed();
        assertThat(context.getStartupFailure()).rootCause()
            .isInstanceOfSatisfying(InvalidConfigurationPropertyValueException.class, failure -> {
              assertThat(failure.getName()).isEqualTo(prefix + name);
              assertThat(failure.getReason()).contains(reason);
            });
      });
    }
  }

  @ParameterizedTest
  @CsvSource({"ssl.certificate-file", "ssl.key-file"})
  void aCertificateNeedsItsKey(String property) {
    contexts.withPropertyValues(PREFERRED + "secure=true", PREFERRED + property + "=/file.pem").run(context -> assertThat(
        context.getStartupFailure()).rootCause().hasMessageContaining(PREFERRED + property).hasMessageContaining("together"));
  }

  @Test
  void aTokenAndAPasswordAreRefusedWithoutShowingThem() {
    contexts
        .withPropertyValues(PREFERRED + "bearer-token=s3cret", PREFERRED + "username=shop", PUBLISHED + "password=s4cret")
        .run(context -> {
          assertThat(context.getStartupFailure()).rootCause()
              .isInstanceOf(MutuallyExclusiveConfigurationPropertiesException.class)
              .hasMessageContaining(PREFERRED + "bearer-token")
              .hasMessageContaining(PUBLISHED + "password")
              .hasMessageNotContaining("s3cret")
              .hasMessageNotContaining("s4cret");
        });
  }

  @Test
  void propertiesMadeOfEmptyPlaceholdersCountAsNotGiven() {
    contexts.withPropertyValues(PREFERRED + "bearer-token=", PREFERRED + "password=${NONE:}", PREFERRED + "ssl.bundle=",
            PREFERRED + "instance=", PREFERRED + "job=", PREFERRED + "bearer-token-file=", PREFERRED + "password-file=",
            PREFERRED + "ssl.ca-file=", PREFERRED + "ssl.key-file=")
        .run(context -> assertThat(context).hasNotFailed());
  }

  @Test
  void addressesOfIpv6AreBracketed() {
    contexts.withPropertyValues(PREFERRED + "host=::1").run(context -> assertThat(context).hasNotFailed());
  }

  @ParameterizedTest
  @CsvSource({"8080,true", "0,false", "-1,false"})
  void theInstanceHasAPortThatStaysTheSame(String port, boolean named) {
    assertThat(DefaultInstance.of(new MockEnvironment().withProperty("server.port", port)).name())
        .matches(name -> name.isPresent() == named && name.stream().allMatch(text -> text.endsWith(":" + port)));
  }

  @ParameterizedTest
  @CsvSource({"micrometer.prometheus.rsocket.password,true", "micrometer.prometheus.rsocket.bearerToken,true",
      "MICROMETER_PROMETHEUS_RSOCKET_BEARER_TOKEN,true", "management.metrics.export.prometheus.rsocket.bearer-token,true",
      "micrometer.prometheus.rsocket.password-file,false", "micrometer.prometheus.rsocket.host,false", "my.password,false"})
  void secretsAreKnownByTheirNames(String name, boolean secret) {
    assertThat(Prefix.isSecret(name)).isEqualTo(secret);
  }

  private static PrometheusRSocketProperties of(ApplicationContext context) {
    return context.getBean("prometheusRSocketProperties", PrometheusRSocketProperties.class);
  }
}
