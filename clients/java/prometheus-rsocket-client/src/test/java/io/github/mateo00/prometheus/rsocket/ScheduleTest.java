package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class ScheduleTest {

  private static final Duration FIRST = Duration.ofSeconds(10);
  private static final Duration MAX = Duration.ofSeconds(60);

  /** What the source of random numbers gives. */
  private double random;

  private Schedule schedule(long maxRetries) {
    return new Schedule(FIRST, MAX, maxRetries, () -> random);
  }

  private static List<Long> failures(Schedule schedule, int count) {
    List<Long> delays = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      delays.add(schedule.failed().orElseThrow().toMillis());
    }
    return delays;
  }

  @Test
  void failedAttemptsWaitLongerAndLongerUpToTheGreatestDelay() {
    Schedule schedule = schedule(Long.MAX_VALUE);
    assertEquals(List.of(10_000L, 20_000L, 40_000L, 60_000L, 60_000L), failures(schedule, 5));
    schedule.connected();
    assertEquals(List.of(10_000L), failures(schedule, 1));
  }

  @Test
  void everyDelayIsLengthenedByUpToItselfAtRandom() {
    random = 0.5;
    Schedule schedule = schedule(Long.MAX_VALUE);
    assertEquals(List.of(15_000L, 30_000L), failures(schedule, 2));
    assertEquals(150, schedule.hurried().toMillis());
  }

  @Test
  void theAttemptAfterTheLastRetryIsNotMadeAndSuccessCountsAnew() {
    Schedule schedule = schedule(1);
    assertTrue(schedule.failed().isPresent());
    schedule.connected();
    assertTrue(schedule.failed().isPresent());
    assertEquals(Optional.empty(), schedule.failed());
  }

  @Test
  void theFirstReturnIsAnywhereWithinHalfASecond() {
    Schedule schedule = schedule(Long.MAX_VALUE);
    for (double share : new double[] {0, 0.25, 1}) {
      random = share;
      assertEquals((long) (500 * share), schedule.ended(Schedule.WELL_AFTER).toMillis());
    }
  }

  @Test
  void aProxyThatKeepsClosingIsAskedLaterAndLater() {
    Schedule schedule = schedule(Long.MAX_VALUE);
    List<Long> delays = new ArrayList<>();
    for (int i = 0; i < 10; i++) {
      delays.add(schedule.ended(Duration.ofSeconds(1)).toMillis());
      // The key came each time, which is no reason to come back sooner.
      schedule.connected();
    }
    assertEquals(List.of(0L, 500L, 1000L, 2000L, 4000L, 8000L, 16_000L, 32_000L, 60_000L, 60_000L), delays);
  }

  @Test
  void aProxyThatRestartsIsAskedAFewTimesBeforeTheFirstBackoff() {
    Schedule schedule = schedule(Long.MAX_VALUE);
    schedule.connected();
    schedule.ended(Schedule.WELL_AFTER);
    assertEquals(List.of(500L, 1000L, 2000L, 10_000L, 20_000L), failures(schedule, 5));
    schedule.connected();
    schedule.ended(Schedule.WELL_AFTER.minusMillis(1));
    assertEquals(List.of(10_000L), failures(schedule, 1));
  }

  @Test
  void ofTwoNodesThatEndOneAfterTheOtherTheSecondCostsNoBackoff() {
    Schedule schedule = schedule(Long.MAX_VALUE);
    schedule.connected();
    schedule.ended(Schedule.WELL_AFTER);
    schedule.connected();
    assertEquals(500, schedule.ended(Duration.ofSeconds(5)).toMillis());
    assertEquals(List.of(1000L, 2000L, 10_000L), failures(schedule, 3));
  }

  @Test
  void whateverDelaysAreChosenTheProxyIsNotHammeredAndTheClockCanAddThem() {
    Schedule none = new Schedule(Duration.ZERO, Duration.ZERO, Long.MAX_VALUE, () -> 0);
    assertEquals(List.of(100L, 100L), failures(none, 2));
    Schedule reversed = new Schedule(MAX, FIRST, Long.MAX_VALUE, () -> 0);
    assertEquals(List.of(10_000L), failures(reversed, 1));
    Duration longest = Duration.ofSeconds(Long.MAX_VALUE);
    Schedule endless = new Schedule(longest, longest, Long.MAX_VALUE, () -> 1);
    assertEquals(Duration.ofDays(2 * 365), endless.failed().orElseThrow());
  }

  @Test
  void aPushThatWaitsShortensEveryDelay() {
    Schedule schedule = schedule(Long.MAX_VALUE);
    for (long delay : new long[] {100, 200, 400, 800, 1000, 1000}) {
      assertEquals(delay, schedule.hurried().toMillis());
    }
  }
}
