/** The Spring Boot starter: one jar for Spring Boot 3.3 to 4. */
package io.github.mateo00.prometheus.rsocket.spring;
