package interop.boot;

import interop.common.Commands;
import interop.common.Lines;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.prometheus.metrics.tracer.common.SpanContext;
import java.io.IOException;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;

/** A Spring Boot app as users write them: the starter does all the work, here is only the line protocol. */
@SpringBootApplication
public class Main {
  public static void main(String[] argv) throws IOException {
    ConfigurableApplicationContext context = SpringApplication.run(Main.class, argv);
    Counter events = Counter.builder("interop.events").description("Grows with each inc")
        .register(context.getBean(MeterRegistry.class));
    Lines.say("READY", "http=" + context.getEnvironment().getProperty("local.server.port"));
    new Commands().on("inc", () -> {
      events.increment();
      Lines.say("INCREMENTED", events.count());
    }).run();
  }

  @Bean
  SpanContext span() {
    return new FixedSpan();
  }

  @Bean
  LastWork lastWork(MeterRegistry registry) {
    return new LastWork(registry);
  }
}
