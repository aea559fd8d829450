package interop.own;

import interop.common.Lines;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.ByteBufAllocatorMetricProvider;
import java.lang.management.ManagementFactory;

/** What the JVM holds on to, once what nobody refers to is gone. */
final class Stats {
  private Stats() {
  }

  static void say() {
    // Twice: what the first finds to be finalised or cleaned goes with the second.
    System.gc();
    System.gc();
    Lines.say("STATS", "heap=" + ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed(),
        "direct=" + ((ByteBufAllocatorMetricProvider) ByteBufAllocator.DEFAULT).metric().usedDirectMemory(),
        "threads=" + ManagementFactory.getThreadMXBean().getThreadCount());
  }
}
