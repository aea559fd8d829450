package interop.client;

import io.prometheus.client.exemplars.tracer.common.SpanContextSupplier;

/** One sampled span that never ends, for exemplars that are the same in every run. */
final class FixedSpan implements SpanContextSupplier {
  @Override
  public String getTraceId() {
    return "0af7651916cd43dd8448eb211c80319c";
  }

  @Override
  public String getSpanId() {
    return "b7ad6b7169203331";
  }
}
