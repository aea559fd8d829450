package io.github.mateo00.prometheus.rsocket;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.security.GeneralSecurityException;
import java.security.PrivateKey;
import java.util.Arrays;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class EnvelopeTest {

  private static final Text TEXT = Text.of("up 1\n");

  private final AtomicLong nanoTime = new AtomicLong();

  private static Announcement announcement(String name) throws IOException {
    return Announcement.decode(Vectors.read("version2/" + name + "/announcement.bin"));
  }

  private static byte[] key() throws IOException {
    return Vectors.read("1-small/public.der");
  }

  private static PrivateKey privateKey() throws Exception {
    return Vectors.privateKey("1-small");
  }

  @ParameterizedTest
  @ValueSource(strings = {
    "1-small", "2-100kb", "3-empty", "4-utf8", "5-rsa3072", "6-pushAndClose", "7-pushAndCloseBlockingly",
    "9-registry-scrape"
  })
  void recordingsOfThePublishedClientOpenAsOurVersion1Does(String folder) throws Exception {
    PrivateKey key = Vectors.privateKey(folder);
    Text text = Vectors.text(folder);
    byte[] metadata = Vectors.read(folder + "/metadata.bin");
    assertArrayEquals(text.bytes(), Opener.version1(key, metadata, Vectors.read(folder + "/data.bin")));
    Sealed sealed = Version1.seal(text, Vectors.publicKey(folder));
    assertArrayEquals(text.bytes(), Opener.version1(key, sealed.metadata(), sealed.data()));
    assertEquals(metadata.length, sealed.metadata().length);
  }

  @Test
  void plaintextIsThePublishedClientsToTheByte() throws Exception {
    Sealing sealing = new Sealing(false, nanoTime::get);
    sealing.take(Vectors.read("8-plaintext/request_data.bin"), Announcement.NONE);
    Sealed sealed = sealing.forPush().seal(Vectors.text("8-plaintext"));
    assertArrayEquals(Vectors.read("8-plaintext/data.bin"), sealed.data());
    assertArrayEquals(Vectors.read("8-plaintext/metadata.bin"), sealed.metadata());
  }

  @ParameterizedTest
  @ValueSource(strings = {"answer", "answer-long", "answer-new-secret", "push", "push-empty"})
  void vectorsOfVersion2OpenWithWhatWeBindTo(String name) throws Exception {
    String folder = "version2/" + name;
    Announcement announcement = announcement(name);
    byte purpose = (byte) (announcement.pull().isPresent() ? 1 : 2);
    byte[] associated = Version2.associatedData(announcement.connection(), purpose, announcement.pull().orElse(0));
    assertArrayEquals(Vectors.read(folder + "/associated.bin"), associated);
    byte[] metadata = Vectors.read(folder + "/metadata.bin");
    byte[] opened = Opener.version2(privateKey(), associated, metadata, Vectors.read(folder + "/data.bin"));
    assertArrayEquals(Vectors.text(folder).bytes(), opened);
    byte[] head = {'P', 'R', 'E', 2};
    assertArrayEquals(head, Arrays.copyOf(metadata, 4));
    assertArrayEquals(Vectors.publicKey("1-small").id(), Arrays.copyOfRange(metadata, 4, 12));
    assertArrayEquals(Version2.nonce(Opener.counter(metadata)), nonceOf(metadata));
  }

  private static byte[] nonceOf(byte[] metadata) {
    byte[] nonce = new byte[12];
    System.arraycopy(metadata, 12, nonce, 4, 8);
    return nonce;
  }

  @Test
  void whatVersion2SealsOpensForItsPurposeOnly() throws Exception {
    Announcement announcement = announcement("answer-long");
    Text text = Vectors.text("version2/answer-long");
    Sealing sealing = new Sealing(true, nanoTime::get);
    sealing.take(key(), announcement);
    Sealed answer = sealing.forAnswer(announcement).seal(text);
    Sealed push = sealing.forPush().seal(text);
    byte[] forAnswer = Vectors.read("version2/answer-long/associated.bin");
    byte[] forPush = Vectors.read("version2/push/associated.bin");
    assertArrayEquals(text.bytes(), open(forAnswer, answer));
    assertArrayEquals(text.bytes(), open(forPush, push));
    assertThrows(GeneralSecurityException.class, () -> open(forPush, answer));
    assertThrows(GeneralSecurityException.class, () -> open(forAnswer, push));
  }

  private static byte[] open(byte[] associated, Sealed sealed) throws Exception {
    return Opener.version2(privateKey(), associated, sealed.metadata(), sealed.data());
  }

  @Test
  void aSecretIsWrappedOnceAndNewAfterAnHourAndForAnotherKeyWhileTheCounterGoesOn() throws Exception {
    Announcement announcement = announcement("push");
    Sealing sealing = new Sealing(false, nanoTime::get);
    sealing.take(key(), announcement);
    byte[] first = sealing.forPush().seal(TEXT).metadata();
    byte[] second = sealing.forPush().seal(TEXT).metadata();
    nanoTime.addAndGet(Version2.MAX_AGE.toNanos());
    byte[] afterAnHour = sealing.forPush().seal(TEXT).metadata();
    sealing.take(Vectors.read("2-100kb/public.der"), announcement);
    byte[] otherKey = sealing.forPush().seal(TEXT).metadata();
    assertArrayEquals(Opener.wrapped(first), Opener.wrapped(second));
    assertFalse(Arrays.equals(Opener.wrapped(second), Opener.wrapped(afterAnHour)));
    assertArrayEquals(Vectors.publicKey("2-100kb").id(), Arrays.copyOfRange(otherKey, 4, 12));
    assertEquals(0, Opener.counter(first));
    assertEquals(1, Opener.counter(second));
    assertEquals(2, Opener.counter(afterAnHour));
    assertEquals(3, Opener.counter(otherKey));
  }

  @Test
  void aSecretSealsNoMoreThanItsUses() throws Exception {
    Sealing sealing = new Sealing(false, nanoTime::get);
    sealing.take(key(), announcement("push"));
    Seal seal = sealing.forPush();
    byte[] first = Opener.wrapped(seal.seal(TEXT).metadata());
    for (int use = 2; use < Version2.MAX_USES; use++) {
      seal.seal(TEXT);
    }
    assertArrayEquals(first, Opener.wrapped(seal.seal(TEXT).metadata()));
    assertFalse(Arrays.equals(first, Opener.wrapped(seal.seal(TEXT).metadata())));
  }

  @Test
  void theHighestVersionThatBothKnowIsTaken() throws Exception {
    byte[] token = new byte[Announcement.TOKEN_BYTES];
    Announcement both = new Announcement(true, true, token, OptionalLong.of(1));
    Announcement onlyFirst = new Announcement(true, false, token, OptionalLong.of(1));
    Announcement noToken = new Announcement(true, true, null, OptionalLong.of(1));
    Map<Announcement, Boolean> isVersion2 =
        Map.of(both, true, onlyFirst, false, noToken, false, Announcement.NONE, false);
    for (Map.Entry<Announcement, Boolean> expected : isVersion2.entrySet()) {
      Sealing sealing = new Sealing(false, nanoTime::get);
      sealing.take(key(), expected.getKey());
      for (Seal seal : new Seal[] {sealing.forAnswer(expected.getKey()), sealing.forPush()}) {
        assertEquals(expected.getValue(), seal.seal(TEXT).metadata().length == 256 + 20, expected.toString());
      }
    }
  }

  @Test
  void aPullWithoutNumberIsAnsweredInVersion1OrNotAtAll() throws Exception {
    Announcement noPull = new Announcement(true, true, new byte[Announcement.TOKEN_BYTES], OptionalLong.empty());
    Sealing any = new Sealing(false, nanoTime::get);
    any.take(key(), noPull);
    assertEquals(256, any.forAnswer(noPull).seal(TEXT).metadata().length);
    Sealing strict = new Sealing(true, nanoTime::get);
    strict.take(key(), noPull);
    assertNull(strict.forAnswer(noPull));
  }

  @Test
  void aProxyThatOpensLessThanVersion2IsRefusedWhereThatIsForbidden() throws Exception {
    Sealing sealing = new Sealing(true, nanoTime::get);
    Announcement good = announcement("push");
    assertEquals(Failure.Reason.DOWNGRADE, refused(sealing, key(), Announcement.NONE));
    assertEquals(Failure.Reason.DOWNGRADE, refused(sealing, "plaintext".getBytes(), good));
    assertTrue(sealing.take(key(), good));
  }

  @Test
  void keysThatAreNoneOrOfAnUnusualSizeAreRefused() throws Exception {
    Sealing sealing = new Sealing(false, nanoTime::get);
    for (byte[] key : new byte[][] {{}, "nothing".getBytes(), rsa(1024), rsa(512)}) {
      assertEquals(Failure.Reason.PROTOCOL, refused(sealing, key, Announcement.NONE));
    }
  }

  private static byte[] rsa(int bits) throws GeneralSecurityException {
    java.security.KeyPairGenerator generator = java.security.KeyPairGenerator.getInstance("RSA");
    generator.initialize(bits);
    return generator.generateKeyPair().getPublic().getEncoded();
  }

  private static Failure.Reason refused(Sealing sealing, byte[] key, Announcement announcement) {
    return assertThrows(Failure.class, () -> sealing.take(key, announcement)).reason();
  }

  @Test
  void theSameKeyAgainIsNoNewOne() throws Exception {
    Sealing sealing = new Sealing(false, nanoTime::get);
    assertTrue(sealing.take(key(), Announcement.NONE));
    assertFalse(sealing.take(key(), Announcement.NONE));
    assertTrue(sealing.take("plaintext".getBytes(), Announcement.NONE));
  }
}
