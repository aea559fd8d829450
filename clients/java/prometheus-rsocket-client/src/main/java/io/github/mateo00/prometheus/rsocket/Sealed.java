package io.github.mateo00.prometheus.rsocket;

/**
 * A text in its envelope: the two halves of an RSocket payload.
 *
 * @param metadata the wrapped secret, or {@code plaintext}
 * @param data the encrypted text, or the text
 */
record Sealed(byte[] metadata, byte[] data) {}
