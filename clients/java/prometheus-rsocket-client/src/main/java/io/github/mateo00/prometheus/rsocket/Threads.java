package io.github.mateo00.prometheus.rsocket;

import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The threads of one client; daemons, so that they do not keep the JVM from exiting. */
final class Threads {

  private static final Logger LOG = LoggerFactory.getLogger(PrometheusRSocketClient.class);
  private static final String NAME = "prometheus-rsocket-client";
  private static final long IDLE_SECONDS = 10;
  /** For what the application does: rendering, and giving credentials. */
  private static final int MAX_WORKERS = 2 * Renderer.MAX_RENDERS;
  /** Calls of listeners that wait, where one does not return. */
  private static final int MAX_CALLS = 64;

  /** Where the client decides. Nothing on it waits. After its end it does nothing, and does not say so. */
  final ScheduledExecutorService loop;

  private final ExecutorService workers;
  private final ExecutorService listeners;

  Threads() {
    ClassLoader loader = Thread.currentThread().getContextClassLoader();
    ThreadFactory factory = task -> {
      Thread thread = new Thread(task, NAME);
      thread.setDaemon(true);
      thread.setContextClassLoader(loader);
      return thread;
    };
    ScheduledThreadPoolExecutor scheduled =
        new ScheduledThreadPoolExecutor(1, factory, new ThreadPoolExecutor.DiscardPolicy());
    scheduled.setRemoveOnCancelPolicy(true);
    loop = scheduled;
    workers =
        new ThreadPoolExecutor(0, MAX_WORKERS, IDLE_SECONDS, TimeUnit.SECONDS, new SynchronousQueue<>(), factory);
    ThreadPoolExecutor one = new ThreadPoolExecutor(
        1, 1, IDLE_SECONDS, TimeUnit.SECONDS, new LinkedBlockingQueue<>(MAX_CALLS), factory,
        new ThreadPoolExecutor.DiscardPolicy());
    one.allowCoreThreadTimeOut(true);
    listeners = one;
  }

  /**
   * Where the application's code may take its time.
   *
   * @throws RejectedExecutionException when all threads are busy
   */
  Executor workers() {
    return workers;
  }

  /** Calls a listener of the application, one after the other. */
  void call(Runnable listener) {
    listeners.execute(() -> {
      try {
        listener.run();
      } catch (RuntimeException e) {
        LOG.warn("A listener of the Prometheus RSocket client failed", e);
      }
    });
  }

  void end() {
    loop.shutdownNow();
    workers.shutdown();
    listeners.shutdown();
  }
}
