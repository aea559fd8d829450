package io.github.mateo00.prometheus.rsocket;

import java.security.GeneralSecurityException;

/** Seals one text. */
@FunctionalInterface
interface Seal {
  Sealed seal(Text text) throws GeneralSecurityException;
}
