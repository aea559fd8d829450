package interop.boot;

import io.prometheus.metrics.tracer.common.SpanContext;

/** One sampled span that never ends, for exemplars that are the same in every run. */
final class FixedSpan implements SpanContext {
  @Override
  public String getCurrentTraceId() {
    return "0af7651916cd43dd8448eb211c80319c";
  }

  @Override
  public String getCurrentSpanId() {
    return "b7ad6b7169203331";
  }

  @Override
  public boolean isCurrentSpanSampled() {
    return true;
  }

  @Override
  public void markCurrentSpanAsExemplar() {
  }
}
