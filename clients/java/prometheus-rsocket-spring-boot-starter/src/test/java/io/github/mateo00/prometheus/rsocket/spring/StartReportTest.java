package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.springframework.boot.test.system.CapturedOutput;
import org.springframework.boot.test.system.OutputCaptureExtension;

/** What the log says after the start. */
@ExtendWith(OutputCaptureExtension.class)
class StartReportTest {

  @Test
  void theProxyIsNamedOrTheLastFailureAndWhatToDo(CapturedOutput output) {
    try (TestProxy proxy = new TestProxy()) {
      Contexts.withMetrics().withPropertyValues(proxy.property(), "micrometer.prometheus.rsocket.push-on-shutdown=false")
          .run(context -> {
            StartReport report = context.getBean(StartReport.class);
            Contexts.awaitConnected(context, true);
            report.report();
            assertThat(output).contains("are scraped through the Prometheus RSocket proxy " + proxy.address());

            proxy.close();
            Contexts.awaitConnected(context, false);
            report.report();
            assertThat(output)
                .contains("are not scraped: there is no connection to a Prometheus RSocket proxy yet (")
                .contains("Check micrometer.prometheus.rsocket.proxies")
                .doesNotContain("no answer so far");
          });
    }
  }
}
