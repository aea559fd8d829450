package io.github.mateo00.prometheus.rsocket.spring;

import io.github.mateo00.prometheus.rsocket.PrometheusRSocketClient;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.beans.factory.config.DestructionAwareBeanPostProcessor;
import org.springframework.context.ApplicationContext;
import org.springframework.context.ApplicationContextAware;
import org.springframework.context.ApplicationListener;
import org.springframework.context.event.ContextRefreshedEvent;

/**
 * Pushes the last values as late as there are any: right before the registry is destroyed. By then the web server has
 * answered its last request, every lifecycle bean has stopped, and every bean that uses the registry is destroyed, with
 * executors that wait for their tasks among them. The destroy method of the client would be called earlier, because the
 * client is one of those beans.
 */
class ShutdownPush implements DestructionAwareBeanPostProcessor, DisposableBean, ApplicationContextAware,
    ApplicationListener<ContextRefreshedEvent> {

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
  public boolean requiresDestruction(Object bean) {
    return bean instanceof PrometheusMeterRegistry;
  }

  @Override
  public void postProcessBeforeDestruction(Object bean, String name) {
    if (bean instanceof PrometheusMeterRegistry) {
      end();
    }
  }

  /** For registries that Spring does not destroy. */
  @Override
  public void destroy() {
    end();
  }

  private void end() {
    PrometheusRSocketClient ending = client;
    client = null;
    if (ending == null) {
      return;
    }
    if (started && wanted) {
      ending.pushAndCloseBlockingly();
    } else {
      ending.close();
    }
  }
}
