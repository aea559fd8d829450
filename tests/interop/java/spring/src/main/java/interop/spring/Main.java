package interop.spring;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.ConfigurableApplicationContext;

/** A Spring Boot app as users write them: the starter does all the work, here is only the line protocol. */
@SpringBootApplication
public class Main {
  public static void main(String[] argv) throws IOException {
    ConfigurableApplicationContext context = SpringApplication.run(Main.class, argv);
    Counter events = Counter.builder("interop.events").description("Grows with each inc")
        .register(context.getBean(MeterRegistry.class));
    System.out.println("READY http=" + context.getEnvironment().getProperty("local.server.port"));

    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = input.readLine()) != null && !line.equals("exit"); ) {
      if (line.equals("inc")) {
        events.increment();
        System.out.println("INCREMENTED " + events.count());
      }
    }
    System.exit(0);
  }
}
