package io.github.mateo00.prometheus.rsocket;

import java.time.Duration;
import java.util.Optional;
import java.util.function.DoubleSupplier;

/** How long to wait before the next attempt to connect. Has no clock and opens no connection. */
final class Schedule {

  /** A connection that lived this long shows that the proxy is well: the delays begin anew. */
  static final Duration WELL_AFTER = Duration.ofSeconds(30);
  /** The shortest delay that the application can choose. */
  static final Duration SHORTEST = Duration.ofMillis(100);

  /** The longest: longer ones are more than a clock can add. */
  private static final Duration LONGEST = Duration.ofDays(365);
  /** After a connection ended. */
  private static final Duration RETURN_FIRST = Duration.ofMillis(500);
  /** How many attempts after a connection that lived well do not wait for the first backoff: a node that restarts. */
  private static final int RETURNS = 4;
  /** While the push at the end waits. */
  private static final Duration HURRIED_FIRST = Duration.ofMillis(100);
  private static final Duration HURRIED_MAX = Duration.ofSeconds(1);

  private final Duration first;
  private final Duration max;
  private final long maxRetries;
  private final DoubleSupplier random;
  /** Attempts that failed one after the other, and how many of them waited for a backoff. */
  private long failures;
  private int backoffs;
  /** Delays after connections that ended, since the last one that lived well. */
  private int returns;
  /** Whether one has lived well. */
  private boolean livedWell;
  private int hurries;

  /** {@code random} gives numbers from 0 to 1. */
  Schedule(Duration first, Duration max, long maxRetries, DoubleSupplier random) {
    this.max = clamp(max, SHORTEST, LONGEST);
    this.first = clamp(first, SHORTEST, this.max);
    this.maxRetries = maxRetries;
    this.random = random;
  }

  /** After an attempt that failed; empty when it was the last. */
  Optional<Duration> failed() {
    failures++;
    if (failures > maxRetries) {
      return Optional.empty();
    }
    if (livedWell && returns < RETURNS) {
      return Optional.of(nextReturn());
    }
    return Optional.of(lengthened(doubled(first, backoffs++, max)));
  }

  /** An attempt succeeded: the key came. */
  void connected() {
    failures = 0;
    backoffs = 0;
  }

  /** After a connection that ended: soon, but later and later while connections keep ending early. */
  Duration ended(Duration lived) {
    if (lived.compareTo(WELL_AFTER) >= 0) {
      livedWell = true;
      returns = 0;
    }
    return nextReturn();
  }

  /** Instead of any of the above while the push at the end waits, if it is shorter. */
  Duration hurried() {
    return lengthened(doubled(HURRIED_FIRST, hurries++, HURRIED_MAX));
  }

  /** The first one is anywhere between nothing and itself: a thousand applications that were connected to one node. */
  private Duration nextReturn() {
    Duration base = RETURN_FIRST.compareTo(first) < 0 ? RETURN_FIRST : first;
    if (returns++ == 0) {
      return share(base);
    }
    return lengthened(doubled(base, returns - 2, max));
  }

  private Duration lengthened(Duration delay) {
    return delay.plus(share(delay));
  }

  private Duration share(Duration delay) {
    return Duration.ofMillis((long) (delay.toMillis() * random.getAsDouble()));
  }

  private static Duration doubled(Duration delay, int times, Duration max) {
    Duration longest = clamp(delay, delay, max);
    for (int i = 0; i < times && longest.compareTo(max) < 0; i++) {
      longest = clamp(longest.multipliedBy(2), delay, max);
    }
    return longest;
  }

  private static Duration clamp(Duration value, Duration min, Duration max) {
    Duration atLeast = value.compareTo(min) < 0 ? min : value;
    return atLeast.compareTo(max) > 0 ? max : atLeast;
  }
}
