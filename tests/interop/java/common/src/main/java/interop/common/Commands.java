package interop.common;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.TreeMap;

/** The line protocol's input: one command a line on standard input, run in order. */
public final class Commands {
  private final Map<String, Runnable> actions = new TreeMap<>();

  public Commands on(String command, Runnable action) {
    actions.put(command, action);
    return this;
  }

  /**
   * Ends the JVM on `exit` and at the end of the input, so that no orphan outlives its test. After `leave` it ends as soon
   * as nothing holds it open.
   */
  public void run() throws IOException {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = input.readLine()) != null && !line.trim().equals("exit"); ) {
      if (line.trim().equals("leave")) {
        return;
      }
      Runnable action = actions.get(line.trim());
      if (action == null) {
        Lines.say("UNKNOWN", line.trim(), "known:", actions.keySet());
      } else {
        action.run();
      }
    }
    System.exit(0);
  }
}
