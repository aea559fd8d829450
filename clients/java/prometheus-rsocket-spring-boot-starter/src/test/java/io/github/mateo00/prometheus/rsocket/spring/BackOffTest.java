package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.test.context.FilteredClassLoader;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.boot.test.system.CapturedOutput;
import org.springframework.boot.test.system.OutputCaptureExtension;

/** Where there is no client, the log says why. */
@ExtendWith(OutputCaptureExtension.class)
class BackOffTest {

  private static final String LINE = "No connection to a Prometheus RSocket proxy is made: ";

  @Test
  void aPropertyThatTurnsTheStarterOffIsNamed(CapturedOutput output) {
    for (String prefix : new String[] {Prefix.PREFERRED, Prefix.PUBLISHED}) {
      Contexts.withMetrics().withPropertyValues(prefix + ".enabled=false").run(context ->
          assertThat(output).contains(LINE + prefix + ".enabled is false"));
    }
  }

  @Test
  void aPropertyThatTurnsTheRegistryOffIsNamed(CapturedOutput output) {
    Contexts.withMetrics().withPropertyValues("management.prometheus.metrics.export.enabled=false").run(context ->
        assertThat(output).contains(LINE + "management.prometheus.metrics.export.enabled is false"));
    Contexts.withMetrics().withPropertyValues("management.defaults.metrics.export.enabled=false").run(context ->
        assertThat(output).contains(LINE + "management.defaults.metrics.export.enabled is false"));
  }

  @Test
  void aRegistryThatIsMissingOnTheClassPathIsNamed(CapturedOutput output) {
    Contexts.withMetrics().withClassLoader(new FilteredClassLoader("io.micrometer.prometheusmetrics")).run(context ->
        assertThat(output).contains(LINE + "micrometer-registry-prometheus 1.13 or newer is not on the class path"));
  }

  @Test
  void aRegistryThatNobodyMakesIsNamed(CapturedOutput output) {
    new ApplicationContextRunner().withConfiguration(Contexts.STARTER).run(context -> assertThat(output)
        .contains(LINE + "there is no bean of type io.micrometer.prometheusmetrics.PrometheusMeterRegistry"));
  }

  @Test
  void anExcludedAutoConfigurationIsNamed(CapturedOutput output) {
    new ApplicationContextRunner().withConfiguration(Contexts.METRICS)
        .withConfiguration(AutoConfigurations.of(BackOffAutoConfiguration.class))
        .run(context -> assertThat(output).contains(LINE + "its auto-configuration is excluded"));
  }

  @Test
  void nothingIsSaidWhereThereIsAClient(CapturedOutput output) {
    Contexts.withMetrics().withPropertyValues(Prefix.PREFERRED + ".push-on-shutdown=false").run(context ->
        assertThat(output).doesNotContain(LINE));
  }
}
