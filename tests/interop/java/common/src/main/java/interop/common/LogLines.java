package interop.common;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;

/** A client's log, told as events: the only place where it says how a push went. */
public final class LogLines extends Handler {
  // Held, because a logger nobody refers to loses its handler.
  private static final List<Logger> FOLLOWED = new ArrayList<>();
  private final Predicate<String> told;

  private LogLines(Predicate<String> told) {
    this.told = told;
  }

  /** Tells what this logger, or one below it, says and `told` accepts. */
  public static void follow(String name, Predicate<String> told) {
    Logger logger = Logger.getLogger(name);
    logger.setUseParentHandlers(false);
    logger.addHandler(new LogLines(told));
    FOLLOWED.add(logger);
  }

  @Override
  public void publish(LogRecord record) {
    if (told.test(record.getMessage())) {
      Throwable cause = record.getThrown();
      Lines.say("LOG", record.getLevel(), record.getMessage(), cause == null ? "" : cause);
    }
  }

  @Override
  public void flush() {
  }

  @Override
  public void close() {
  }
}
