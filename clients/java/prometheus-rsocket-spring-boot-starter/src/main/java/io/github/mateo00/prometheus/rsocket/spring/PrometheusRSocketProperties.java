package io.github.mateo00.prometheus.rsocket.spring;

import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The properties, the same under both prefixes. */
class PrometheusRSocketProperties {

  /** Whether to connect to a proxy. */
  private boolean enabled = true;

  /**
   * Addresses of proxies, tried in turn, such as tls://proxy:7001: tcp, tls, ws or wss, host, port and, for the
   * last two, a path. Replaces host, port, transport and secure.
   */
  private List<String> proxies = new ArrayList<>();

  /** Host name of the proxy. */
  private String host = "localhost";

  /** Port of the proxy. */
  private int port = 7001;

  /** How to connect to the proxy. */
  private Transport transport = Transport.TCP;

  /** Whether to connect with TLS. */
  private boolean secure = false;

  /** How many attempts to connect may fail in a row, after the first one, before the client gives up. */
  private long maxRetries = Long.MAX_VALUE;

  /** Delay after the first attempt to connect that failed. It doubles with each further one. */
  private Duration firstBackoff = Duration.ofSeconds(10);

  /** Longest delay between two attempts to connect. */
  private Duration maxBackoff = Duration.ofMinutes(10);

  /** How long an attempt to connect may take before the next proxy is tried. */
  private Duration connectTimeout = Duration.ofSeconds(10);

  /** How long the push at shutdown may take. */
  private Duration pushTimeout = Duration.ofSeconds(5);

  /** Whether to push the last values when the application shuts down. */
  private boolean pushOnShutdown = true;

  /** How often to send a sign of life to the proxy. */
  private Duration keepalive = Duration.ofSeconds(5);

  /** How long to wait for a sign of life of the proxy before the connection is given up. */
  private Duration maxLifetime = Duration.ofSeconds(15);

  /** Token that the application presents to the proxy. */
  private String bearerToken;

  /** File with the token that the application presents to the proxy. It is read for each connection. */
  private String bearerTokenFile;

  /** User name that the application presents to the proxy, with a password. */
  private String username;

  /** Password of the user name. */
  private String password;

  /** File with the password of the user name. It is read for each connection. */
  private String passwordFile;

  /** Whether to refuse proxies that cannot open version 2 of the envelope. */
  private boolean forbidDowngrade = false;

  /** Whether to send OpenMetrics, which has exemplars, instead of the Prometheus text format. */
  private boolean openMetrics = false;

  /** Job of the application. Default is spring.application.name. */
  private String job;

  /**
   * Instance of the application. Default is the host name and server.port, or without a web server the host name
   * and the process id.
   */
  private String instance;

  /** More labels of the application. */
  private Map<String, String> labels = new LinkedHashMap<>();

  private final Ssl ssl = new Ssl();

  public boolean isEnabled() {
    return enabled;
  }

  public void setEnabled(boolean enabled) {
    this.enabled = enabled;
  }

  public List<String> getProxies() {
    return proxies;
  }

  public void setProxies(List<String> proxies) {
    this.proxies = proxies;
  }

  public String getHost() {
    return host;
  }

  public void setHost(String host) {
    this.host = host;
  }

  public int getPort() {
    return port;
  }

  public void setPort(int port) {
    this.port = port;
  }

  public Transport getTransport() {
    return transport;
  }

  public void setTransport(Transport transport) {
    this.transport = transport;
  }

  public boolean isSecure() {
    return secure;
  }

  public void setSecure(boolean secure) {
    this.secure = secure;
  }

  public long getMaxRetries() {
    return maxRetries;
  }

  public void setMaxRetries(long maxRetries) {
    this.maxRetries = maxRetries;
  }

  public Duration getFirstBackoff() {
    return firstBackoff;
  }

  public void setFirstBackoff(Duration firstBackoff) {
    this.firstBackoff = firstBackoff;
  }

  public Duration getMaxBackoff() {
    return maxBackoff;
  }

  public void setMaxBackoff(Duration maxBackoff) {
    this.maxBackoff = maxBackoff;
  }

  public Duration getConnectTimeout() {
    return connectTimeout;
  }

  public void setConnectTimeout(Duration connectTimeout) {
    this.connectTimeout = connectTimeout;
  }

  public Duration getPushTimeout() {
    return pushTimeout;
  }

  public void setPushTimeout(Duration pushTimeout) {
    this.pushTimeout = pushTimeout;
  }

  public boolean isPushOnShutdown() {
    return pushOnShutdown;
  }

  public void setPushOnShutdown(boolean pushOnShutdown) {
    this.pushOnShutdown = pushOnShutdown;
  }

  public Duration getKeepalive() {
    return keepalive;
  }

  public void setKeepalive(Duration keepalive) {
    this.keepalive = keepalive;
  }

  public Duration getMaxLifetime() {
    return maxLifetime;
  }

  public void setMaxLifetime(Duration maxLifetime) {
    this.maxLifetime = maxLifetime;
  }

  public String getBearerToken() {
    return bearerToken;
  }

  public void setBearerToken(String bearerToken) {
    this.bearerToken = bearerToken;
  }

  public String getBearerTokenFile() {
    return bearerTokenFile;
  }

  public void setBearerTokenFile(String bearerTokenFile) {
    this.bearerTokenFile = bearerTokenFile;
  }

  public String getUsername() {
    return username;
  }

  public void setUsername(String username) {
    this.username = username;
  }

  public String getPassword() {
    return password;
  }

  public void setPassword(String password) {
    this.password = password;
  }

  public String getPasswordFile() {
    return passwordFile;
  }

  public void setPasswordFile(String passwordFile) {
    this.passwordFile = passwordFile;
  }

  public boolean isForbidDowngrade() {
    return forbidDowngrade;
  }

  public void setForbidDowngrade(boolean forbidDowngrade) {
    this.forbidDowngrade = forbidDowngrade;
  }

  public boolean isOpenMetrics() {
    return openMetrics;
  }

  public void setOpenMetrics(boolean openMetrics) {
    this.openMetrics = openMetrics;
  }

  public String getJob() {
    return job;
  }

  public void setJob(String job) {
    this.job = job;
  }

  public String getInstance() {
    return instance;
  }

  public void setInstance(String instance) {
    this.instance = instance;
  }

  public Map<String, String> getLabels() {
    return labels;
  }

  public void setLabels(Map<String, String> labels) {
    this.labels = labels;
  }

  public Ssl getSsl() {
    return ssl;
  }

  /** How to connect to the proxy. */
  enum Transport {
    /** Over TCP. */
    TCP,
    /** Over WebSocket. */
    WEBSOCKET
  }

  /** Certificates, for connections with TLS. */
  static class Ssl {

    /** SSL bundle with the certificates to trust and, if the proxy wants one, the certificate to present. */
    private String bundle;

    /** PEM file with the certificates to trust instead of those of the JDK. It is read for each connection. */
    private String caFile;

    /** PEM file with the certificate that the application presents. It is read for each connection. */
    private String certificateFile;

    /** PEM file with the key of the certificate (PKCS #8). It is read for each connection. */
    private String keyFile;

    /** Name that the proxy's certificate has to be for. Default is the host of the proxy. */
    private String serverName;

    public String getBundle() {
      return bundle;
    }

    public void setBundle(String bundle) {
      this.bundle = bundle;
    }

    public String getCaFile() {
      return caFile;
    }

    public void setCaFile(String caFile) {
      this.caFile = caFile;
    }

    public String getCertificateFile() {
      return certificateFile;
    }

    public void setCertificateFile(String certificateFile) {
      this.certificateFile = certificateFile;
    }

    public String getKeyFile() {
      return keyFile;
    }

    public void setKeyFile(String keyFile) {
      this.keyFile = keyFile;
    }

    public String getServerName() {
      return serverName;
    }

    public void setServerName(String serverName) {
      this.serverName = serverName;
    }
  }
}
