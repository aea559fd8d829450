package interop.boot;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.context.SmartLifecycle;

/** Work that an app does while it shuts down, and that its push has to count. */
final class LastWork implements SmartLifecycle, DisposableBean {
  private final Counter stopped;
  private final Counter destroyed;
  private volatile boolean running;

  LastWork(MeterRegistry registry) {
    stopped = counter(registry, "stop");
    destroyed = counter(registry, "destroy");
  }

  private static Counter counter(MeterRegistry registry, String phase) {
    return Counter.builder("interop.last.work").tag("phase", phase).register(registry);
  }

  @Override
  public void start() {
    running = true;
  }

  @Override
  public void stop() {
    stopped.increment();
    running = false;
  }

  @Override
  public boolean isRunning() {
    return running;
  }

  /** Later than the web server and all other lifecycles. */
  @Override
  public int getPhase() {
    return Integer.MIN_VALUE;
  }

  @Override
  public void destroy() {
    destroyed.increment();
  }
}
