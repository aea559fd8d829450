package interop.client;

import interop.common.Args;
import interop.common.Commands;
import interop.common.Lines;
import interop.common.LogLines;
import interop.common.Transports;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.Stream;

/** Apps on the published client, driven by lines. See tests/interop/README.md. */
public final class Main {
  private static final String[] OPTIONS = {"--name=", "--count=", "--series=", "--wide", "--registries=", "--openmetrics",
      "--exemplars", "--text=", "--hang", "--slow=", "--first-backoff=", "--max-backoff=", "--timeout=", "--blocking",
      "--held"};
  private static final String LOGGER = "io.micrometer.prometheus.rsocket.PrometheusRSocketClient";

  public static void main(String[] argv) throws Exception {
    Args args = new Args(argv, Stream.of(OPTIONS, Transports.OPTIONS).flatMap(Stream::of).toArray(String[]::new));
    // Left out: its word at every key. READY is ours.
    LogLines.follow(LOGGER, message -> !message.startsWith("Connected"));

    int count = args.number("--count", 1);
    String name = args.text("--name", "java");
    List<App> apps = new ArrayList<>();
    for (int i = 1; i <= count; i++) {
      apps.add(new App(count == 1 ? name : name + "-" + i, args, count <= 500));
    }
    if (args.has("--held")) {
      Lines.say("HELD");
    } else {
      apps.forEach(App::connect);
    }
    new Commands()
        .on("connect", () -> apps.forEach(App::connect))
        .on("inc", () -> apps.forEach(App::increment))
        .on("push", () -> inParallel(apps, App::push))
        .on("pushblocking", () -> inParallel(apps, App::pushBlocking))
        .on("close", () -> apps.forEach(App::close))
        .run();
  }

  private static void inParallel(List<App> apps, Consumer<App> action) {
    apps.parallelStream().forEach(action);
    Lines.say("DONE");
  }
}
