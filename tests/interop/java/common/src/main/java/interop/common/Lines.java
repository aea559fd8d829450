package interop.common;

/** The line protocol's output: one event a line on standard output, flushed at once. */
public final class Lines {
  private Lines() {
  }

  public static synchronized void say(String event, Object... details) {
    StringBuilder line = new StringBuilder(event);
    for (Object detail : details) {
      line.append(' ').append(String.valueOf(detail).replace('\n', ' '));
    }
    System.out.println(line);
    System.out.flush();
  }
}
