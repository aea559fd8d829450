package interop.rsocket;

import interop.common.Args;
import interop.common.Commands;
import interop.common.Lines;
import interop.common.Transports;
import java.util.stream.Stream;

/** An app on rsocket-java itself, driven by lines. See tests/interop/README.md. */
public final class Main {
  private static final String[] OPTIONS = {"--name=", "--mtu=", "--bytes=", "--text=", "--answer=", "--delay=",
      "--lease=", "--resume", "--keepalive=", "--max-lifetime=", "--token=", "--user=", "--password=", "--alone"};

  public static void main(String[] argv) throws Exception {
    Args args = new Args(argv, Stream.of(OPTIONS, Transports.OPTIONS).flatMap(Stream::of).toArray(String[]::new));

    String name = args.text("--name", "rsocket");
    Text text = new Text(name, args);
    Connection connection = new Connection(name, args, new Responder(name, args, text));
    new Commands()
        .on("push", () -> connection.push(text.get()))
        .on("pushblocking", () -> connection.pushBlocking(text.get()))
        .on("pushrubbish", connection::pushRubbish)
        .on("digest", () -> Lines.say("DIGEST", name, text.describe()))
        .on("close", connection::close)
        .run();
  }
}
