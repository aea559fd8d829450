package io.github.mateo00.prometheus.rsocket;

import java.util.concurrent.Executor;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Sinks;
import reactor.util.retry.Retry;

/** Asks the application's {@link Retry} when to try again, one failure after the other. */
final class AskedRetry {

  private final Retry retry;
  private final Executor loop;
  private final Runnable due;
  private final Runnable exhausted;
  private Sinks.Many<Retry.RetrySignal> failures;
  private Disposable answers;
  private long count;

  /** Calls {@code due} when it is time, or {@code exhausted} when there is to be no other attempt, on {@code loop}. */
  AskedRetry(Retry retry, Executor loop, Runnable due, Runnable exhausted) {
    this.retry = retry;
    this.loop = loop;
    this.due = due;
    this.exhausted = exhausted;
  }

  /** An attempt failed. */
  void failed(Throwable failure) {
    if (failures == null) {
      failures = Sinks.many().unicast().onBackpressureBuffer();
      Runnable end = () -> loop.execute(exhausted);
      answers = Flux.from(retry.generateCompanion(failures.asFlux()))
          .subscribe(next -> loop.execute(due), error -> end.run(), end);
    }
    failures.tryEmitNext(new Signal(count++, failure));
  }

  /** An attempt succeeded: the next failure is the first. */
  void reset() {
    if (answers != null) {
      answers.dispose();
    }
    failures = null;
    answers = null;
    count = 0;
  }

  private record Signal(long totalRetries, Throwable failure) implements Retry.RetrySignal {

    @Override
    public long totalRetriesInARow() {
      return totalRetries;
    }
  }
}
