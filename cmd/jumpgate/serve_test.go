package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway/config"
)

// selfSigned writes a certificate for localhost and its key.
func selfSigned(t *testing.T, certificate, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	writeFile(t, certificate, string(public))
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return pool
}

// addresses is a log that tells on which addresses a server listens.
type addresses struct{ serving chan string }

func (a addresses) Write(line []byte) (int, error) {
	if _, rest, ok := strings.Cut(string(line), "msg=serving"); ok {
		_, rest, _ = strings.Cut(rest, " address=")
		address, _, _ := strings.Cut(rest, " ")
		a.serving <- address
	}
	return len(line), nil
}

func TestServeSpeaksTLSAndHTTP2(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s by %s", r.URL, r.Host, r.Header.Get("X-Forwarded-Proto"))
	}))
	defer upstream.Close()
	dir := t.TempDir()
	pool := selfSigned(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	file := filepath.Join(dir, "jumpgate.yaml")
	writeFile(t, file, fmt.Sprintf(`
listen: 127.0.0.1:0
admin: {listen: "off"}
tls: {certificate: cert.pem, key: key.pem}
state_dir: state
sites:
  - wwwroot: https://localhost
    upstream: %s
    peers: [{wwwroot: "https://forum.invalid", fingerprint: "SHA256:%064x"}]
`, upstream.URL, 1))
	loaded, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	log := addresses{make(chan string, 1)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	s := &server{log: slog.New(slog.NewTextHandler(log, nil)), load: func() (*config.Config, error) { return config.Load(file) }}
	go func() { ended <- s.run(ctx, loaded) }()
	address := <-log.serving

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: new(http.Protocols)}
	defer transport.CloseIdleConnections()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
		transport.Protocols.SetHTTP2(protocol == "HTTP/2.0")
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://localhost:"+address[strings.LastIndexByte(address, ':')+1:]+"/my/?x=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "localhost"
		res, err := transport.Clone().RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.Proto != protocol || string(body) != "/my/?x=1 for localhost by https" {
			t.Errorf("%s: %s %q, %v", protocol, res.Proto, body, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
