package interop.own;

import interop.common.Args;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** A text of the app's own making, for what no registry does: a file's, or one that takes long. */
final class Scrape implements Supplier<String> {
  private final Metrics metrics;
  private final String file;
  private final long delayMillis;

  Scrape(Metrics metrics, Args args) {
    this.metrics = metrics;
    this.file = args.text("--text", null);
    this.delayMillis = args.has("--hang") ? TimeUnit.DAYS.toMillis(365) : args.number("--slow", 0);
  }

  /** Whether the app is to make its text itself. */
  static boolean isWanted(Args args) {
    return args.has("--text") || args.has("--hang") || args.has("--slow");
  }

  @Override
  public String get() {
    try {
      TimeUnit.MILLISECONDS.sleep(delayMillis);
      return file == null ? metrics.registries().get(0).scrape() : Files.readString(Path.of(file));
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
