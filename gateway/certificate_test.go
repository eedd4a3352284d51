package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"

	"jumpgate/gateway"
)

func TestACertificateOfARealMoodle(t *testing.T) {
	recorded, err := os.ReadFile("testdata/idp.cert.pem")
	if err != nil {
		t.Fatal(err)
	}
	c, err := gateway.ParseCertificate(recorded)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.PEM(); got != string(recorded) {
		t.Errorf("written again it is\n%s", got)
	}
	for root, want := range map[string]bool{"http://idp.test:8080": true, "https://idp.test:8080": false, "http://idp.test": false} {
		if got := c.Names(wwwroot(t, root)); got != want {
			t.Errorf("Names(%s) = %v", root, got)
		}
	}
	printed := c.Fingerprint().String()
	digits, _ := strings.CutPrefix(printed, "SHA256:")
	var colons []string
	for i := 0; i < len(digits); i += 2 {
		colons = append(colons, digits[i:i+2])
	}
	for _, spelling := range []string{printed, "sha256:" + strings.ToUpper(strings.Join(colons, ":"))} {
		if f, err := gateway.ParseFingerprint(spelling); err != nil || f != c.Fingerprint() || f.IsZero() {
			t.Errorf("ParseFingerprint(%q) = %s, %v", spelling, f, err)
		}
	}
}

func TestParseFingerprintRefuses(t *testing.T) {
	for _, s := range []string{"", "SHA256:", "SHA256:00", "MD5:00", strings.Repeat("00", 32), "SHA256:" + strings.Repeat("0g", 32), "SHA256:" + strings.Repeat("0", 64)} {
		if _, err := gateway.ParseFingerprint(s); err == nil {
			t.Errorf("ParseFingerprint(%q) succeeded", s)
		}
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	elliptic := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"no certificate":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"broken DER":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[:50]}),
		"an elliptic curve": elliptic,
	} {
		if _, err := gateway.ParseCertificate(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// A certificate that is read is written in the one layout that Moodle takes,
// and is the same when it is read again.
func FuzzParseCertificate(f *testing.F) {
	recorded, err := os.ReadFile("testdata/idp.cert.pem")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(recorded)
	f.Add([]byte(strings.ReplaceAll(string(recorded), "\n", "\r\n")))
	f.Add([]byte("some text\n" + string(recorded) + string(recorded)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := gateway.ParseCertificate(b)
		if err != nil {
			return
		}
		again, err := gateway.ParseCertificate([]byte(c.PEM()))
		if err != nil || again.Fingerprint() != c.Fingerprint() || again.PEM() != c.PEM() || !again.PublicKey.Equal(c.PublicKey) {
			t.Errorf("a certificate does not survive its own PEM: %v", err)
		}
		lines := strings.Split(strings.TrimSuffix(c.PEM(), "\n"), "\n")
		for i, line := range lines {
			if first, last := i == 0, i >= len(lines)-2; !first && !last && len(line) != 64 || len(line) > 64 {
				t.Errorf("line %d has %d characters", i, len(line))
			}
		}
		if bits := c.PublicKey.N.BitLen(); bits < 1024 || bits > 8192 {
			t.Errorf("a key of %d bits", bits)
		}
		c.Names(wwwroot(t, "https://idp.test/moodle"))
	})
}
