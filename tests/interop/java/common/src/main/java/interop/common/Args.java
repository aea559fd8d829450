package interop.common;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Command line: `--option value` and bare `--flag`. Anything unknown ends the program with status 2. */
public final class Args {
  private final Map<String, String> values = new HashMap<>();

  /** Names are written as on the command line; those that take a value end in `=`. */
  public Args(String[] argv, String... names) {
    List<String> known = Arrays.asList(names);
    for (int i = 0; i < argv.length; i++) {
      String name = argv[i];
      if (known.contains(name)) {
        values.put(name, "");
      } else if (known.contains(name + "=") && i + 1 < argv.length) {
        values.put(name, argv[++i]);
      } else {
        System.err.println("unknown or incomplete option " + name + "; known: " + String.join(" ", names));
        System.exit(2);
      }
    }
  }

  public boolean has(String name) {
    return values.containsKey(name);
  }

  public String text(String name, String fallback) {
    return values.getOrDefault(name, fallback);
  }

  public int number(String name, int fallback) {
    return Integer.parseInt(text(name, Integer.toString(fallback)));
  }
}
