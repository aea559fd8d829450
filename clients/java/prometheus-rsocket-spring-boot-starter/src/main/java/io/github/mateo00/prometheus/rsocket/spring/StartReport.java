package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.context.event.ApplicationReadyEvent;
import org.springframework.context.ApplicationListener;

/** Says, a few seconds after the application has started, whether it is connected. */
final class StartReport implements ApplicationListener<ApplicationReadyEvent> {

  private static final Logger LOG = LoggerFactory.getLogger(StartReport.class);
  private static final int SECONDS = 5;

  private final PrometheusRSocketClient client;

  StartReport(PrometheusRSocketClient client) {
    this.client = client;
  }

  @Override
  public void onApplicationEvent(ApplicationReadyEvent event) {
    CompletableFuture.delayedExecutor(SECONDS, TimeUnit.SECONDS).execute(() -> {
      if (event.getApplicationContext().isActive()) {
        report();
      }
    });
  }

  void report() {
    client.proxy().ifPresentOrElse(
        proxy -> LOG.info("The metrics of this application are scraped through the Prometheus RSocket proxy {}", proxy),
        () -> LOG.warn("The metrics of this application are not scraped: there is no connection to a Prometheus RSocket "
            + "proxy yet ({}). Check {}.proxies, or host and port",
            client.lastFailure().orElse("no answer so far"), Prefix.PREFERRED));
  }
}
