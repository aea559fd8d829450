package io.github.mateo00.prometheus.rsocket.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.context.SmartLifecycle;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.http.client.ReactorResourceFactory;
import org.springframework.scheduling.concurrent.ThreadPoolTaskExecutor;

/** When the last values are pushed, and when not. */
class ShutdownPushTest {

  @Test
  void whatIsCountedByBeansThatStopAndByTheLastTaskIsPushed() throws Exception {
    try (TestProxy proxy = new TestProxy()) {
      Contexts.withMetrics()
          .withPropertyValues(proxy.property())
          .withUserConfiguration(LastWork.class)
          .run(context -> {
            proxy.setup();
            Counter tasks = context.getBean(MeterRegistry.class).counter("work", "when", "task");
            CountDownLatch stopped = context.getBean(Stopping.class).stopped;
            context.getBean(ThreadPoolTaskExecutor.class).execute(() -> {
              awaitUninterrupted(stopped);
              tasks.increment();
            });
          });
      assertThat(proxy.push()).contains("work_total{when=\"stop\"} 1.0", "work_total{when=\"task\"} 1.0",
          "work_total{when=\"destroy\"} 1.0");
      assertThat(proxy.hasPushes()).isFalse();
    }
  }

  /** As in an application with WebFlux, which ends the event loops of all HTTP clients while it shuts down. */
  @Test
  void thePushDoesNotNeedWhatSpringHasEndedBefore() throws Exception {
    try (TestProxy proxy = TestProxy.overWebSocket()) {
      Contexts.withMetrics()
          .withPropertyValues(proxy.property())
          .withBean(ReactorResourceFactory.class, () -> {
            ReactorResourceFactory factory = new ReactorResourceFactory();
            factory.setShutdownQuietPeriod(Duration.ZERO);
            return factory;
          })
          .run(context -> proxy.setup());
      assertThat(proxy.push()).contains("prometheus_rsocket_client_connects_total");
    }
  }

  @Test
  void nothingIsPushedWhereThatIsNotWanted() throws Exception {
    try (TestProxy proxy = new TestProxy()) {
      Contexts.withMetrics()
          .withPropertyValues(proxy.property(), "micrometer.prometheus.rsocket.push-on-shutdown=false")
          .run(context -> proxy.setup());
      proxy.goodbye();
      assertThat(proxy.hasPushes()).isFalse();
    }
  }

  @Test
  void nothingIsPushedByAnApplicationThatCouldNotBeStarted() throws Exception {
    try (TestProxy proxy = new TestProxy()) {
      Contexts.withMetrics()
          .withPropertyValues(proxy.property())
          .withUserConfiguration(Failing.class)
          .withBean(TestProxy.class, () -> proxy)
          .run(context -> assertThat(context).hasFailed());
      proxy.goodbye();
      assertThat(proxy.hasPushes()).isFalse();
    }
  }

  private static void awaitUninterrupted(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  @Configuration(proxyBeanMethods = false)
  static class LastWork {

    /** Made before the registry, and so destroyed after it. */
    @Bean
    ThreadPoolTaskExecutor executor() {
      ThreadPoolTaskExecutor executor = new ThreadPoolTaskExecutor();
      executor.setWaitForTasksToCompleteOnShutdown(true);
      executor.setAwaitTerminationSeconds(30);
      return executor;
    }

    @Bean
    Stopping stopping(MeterRegistry registry) {
      return new Stopping(registry.counter("work", "when", "stop"));
    }

    @Bean
    DisposableBean destroyed(MeterRegistry registry) {
      return registry.counter("work", "when", "destroy")::increment;
    }
  }

  /** Stops later than all other lifecycles. */
  static final class Stopping implements SmartLifecycle {

    final CountDownLatch stopped = new CountDownLatch(1);
    private final Counter counter;

    Stopping(Counter counter) {
      this.counter = counter;
    }

    @Override
    public void start() {}

    @Override
    public void stop() {
      counter.increment();
      stopped.countDown();
    }

    @Override
    public boolean isRunning() {
      return stopped.getCount() > 0;
    }

    @Override
    public int getPhase() {
      return Integer.MIN_VALUE;
    }
  }

  /** Fails when the client has connected already. */
  @Configuration(proxyBeanMethods = false)
  static class Failing {

    @Bean
    SmartLifecycle failing(TestProxy proxy) {
      return new SmartLifecycle() {
        @Override
        public void start() {
          proxy.setup();
          throw new IllegalStateException("a port that is taken, say");
        }

        @Override
        public void stop() {}

        @Override
        public boolean isRunning() {
          return false;
        }
      };
    }
  }
}
