package interop.own;

import interop.common.Args;
import interop.common.Commands;
import interop.common.Lines;
import interop.common.LogLines;
import java.util.ArrayList;
import java.util.List;

/** Apps on the client of clients/java, driven by lines. See tests/interop/README.md. */
public final class Main {
  private static final String[] OPTIONS = {"--transport=", "--host=", "--port=", "--ca=", "--cert=", "--key=",
      "--http-proxy=", "--proxies=", "--name=", "--count=", "--series=", "--wide", "--registries=", "--openmetrics", "--exemplars",
      "--text=", "--hang", "--slow=", "--first-backoff=", "--max-backoff=", "--keepalive=", "--max-lifetime=",
      "--timeout=", "--blocking", "--held",
      "--token-file=", "--user=", "--password-file=", "--forbid-downgrade", "--instance=", "--job="};

  public static void main(String[] argv) throws Exception {
    Args args = new Args(argv, OPTIONS);
    LogLines.follow("io.github.mateo00.prometheus.rsocket", message -> true);

    int count = args.number("--count", 1);
    String name = args.text("--name", "java");
    List<App> apps = new ArrayList<>();
    for (int i = 1; i <= count; i++) {
      apps.add(new App(count == 1 ? name : name + "-" + i, args));
    }
    if (args.has("--held")) {
      Lines.say("HELD");
    } else {
      apps.forEach(App::connect);
    }
    new Commands()
        .on("connect", () -> apps.forEach(App::connect))
        .on("inc", () -> apps.forEach(App::increment))
        .on("push", () -> {
          apps.forEach(App::push);
          Lines.say("DONE");
        })
        .on("pushblocking", () -> {
          apps.parallelStream().forEach(App::pushBlocking);
          Lines.say("DONE");
        })
        .on("close", () -> apps.forEach(App::close))
        .on("stats", Stats::say)
        .run();
  }
}
