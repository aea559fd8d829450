package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.beans.factory.config.BeanPostProcessor;
import org.springframework.context.ApplicationContext;
import org.springframework.context.ApplicationContextAware;
import org.springframework.context.ApplicationListener;
import org.springframework.context.event.ContextRefreshedEvent;

/**
 * Pushes the last values after the last work. A bean post-processor is made before all ordinary beans, and so destroyed
 * after them: by then the web server has answered its last request, every lifecycle bean has stopped, and executors have
 * waited for their tasks. The client's own destroy method would be called too early for that.
 *
 * <p>Spring Boot closes registries when the shutdown begins. A closed registry takes no new meters, but those that it has
 * go on counting, and can be read.
 */
class ShutdownPush
    implements BeanPostProcessor, DisposableBean, ApplicationContextAware, ApplicationListener<ContextRefreshedEvent> {

  private ApplicationContext context;
  private PrometheusRSocketClient client;
  private boolean wanted;
  private boolean started;

  void of(PrometheusRSocketClient client, boolean wanted) {
    this.client = client;
    this.wanted = wanted;
  }

  @Override
  public void setApplicationContext(ApplicationContext context) {
    this.context = context;
  }

  /** An application that could not be started has nothing to push. */
  @Override
  public void onApplicationEvent(ContextRefreshedEvent event) {
    started |= event.getApplicationContext() == context;
  }

  @Override
  public void destroy() {
    if (client == null) {
      return;
    }
    if (started && wanted) {
      client.pushAndCloseBlockingly();
    } else {
      client.close();
    }
  }
}
