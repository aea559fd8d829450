package interop.client;

import interop.common.Lines;
import java.util.logging.Handler;
import java.util.logging.LogRecord;

/** The published client tells the outcome of a push only in its log. Left out: its word at every key, READY is ours. */
final class LogLines extends Handler {
  @Override
  public void publish(LogRecord record) {
    if (record.getMessage().startsWith("Connected")) {
      return;
    }
    Throwable cause = record.getThrown();
    Lines.say("LOG", record.getLevel(), record.getMessage(), cause == null ? "" : cause);
  }

  @Override
  public void flush() {
  }

  @Override
  public void close() {
  }
}
