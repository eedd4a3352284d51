package mnet

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestANewKeyIsWhatPeersExpect(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	site := wwwroot(t, "https://moodle.example.org/"+strings.Repeat("long_name/", 10)+"x")
	key, err := NewKey(site, now, DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(key.Certificate().DER)
	if err != nil {
		t.Fatal(err)
	}
	if got := cert.Subject.CommonName; got != site.String()[:64] {
		t.Errorf("common name %q", got)
	}
	var alt any
	for _, name := range cert.Subject.Names {
		if name.Type.String() == "2.5.29.17" {
			alt = name.Value
		}
	}
	if alt != site.String() {
		t.Errorf("subjectAltName in the subject: %v", alt)
	}
	if !key.Certificate().Names(site) || key.Certificate().Names(wwwroot(t, "https://moodle.example.org")) {
		t.Error("the certificate names the wrong site")
	}
	if bits := key.private.N.BitLen(); bits != 2048 {
		t.Errorf("%d bits", bits)
	}
	if !cert.NotAfter.Equal(now.Add(DefaultLifetime)) || cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		t.Error("wrong lifetime or signature")
	}
	lines := strings.Split(strings.TrimSpace(key.Certificate().PEM()), "\n")
	for _, line := range lines[1 : len(lines)-2] {
		if len(line) != 64 {
			t.Errorf("PEM line of %d characters", len(line))
		}
	}
}

func TestAKeyIsReadInEveryFormThatPeersStore(t *testing.T) {
	key := recordedKey(t, "idp")
	cert := key.Certificate().PEM()
	pkcs8 := strings.TrimPrefix(string(key.PEM()), cert)
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key.private)}))
	stranger := strings.TrimPrefix(string(recordedKey(t, "stranger").PEM()), recordedKey(t, "stranger").Certificate().PEM())
	for name, c := range map[string]struct {
		pem string
		err string
	}{
		"certificate, then PKCS #8": {cert + pkcs8, ""},
		"PKCS #1, then certificate": {pkcs1 + "\n\n" + cert, ""},
		"Moodle's pair":             {cert + "@@@@@@@@" + pkcs8, ""},
		"PKCS #1 labelled PKCS #8":  {cert + strings.ReplaceAll(pkcs1, "RSA PRIVATE", "PRIVATE"), ""},
		"PKCS #8 labelled PKCS #1":  {cert + strings.ReplaceAll(pkcs8, " PRIVATE", " RSA PRIVATE"), ""},
		"text around":               {"# our key\n" + cert + "more\n" + pkcs8, ""},
		"no key":                    {cert, "no PEM private key"},
		"no certificate":            {pkcs8, "no PEM certificate"},
		"nothing":                   {"", "no PEM certificate"},
		"another's key":             {cert + stranger, "does not belong"},
		"two keys":                  {cert + pkcs8 + stranger, "more than one private key"},
		"two certificates":          {cert + cert + pkcs8, "more than one certificate"},
		"a passphrase":              {cert + strings.ReplaceAll(pkcs8, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "passphrase"},
		"something else":            {cert + strings.ReplaceAll(pkcs8, "PRIVATE KEY", "EC PRIVATE KEY"), "unexpected"},
	} {
		got, err := ParseKey([]byte(c.pem))
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want one about %q", name, err, c.err)
		case c.err == "" && (err != nil || !got.private.Equal(key.private)):
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestAnOldPeersKeyOf1024BitsWorks(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	site := wwwroot(t, "http://old.test")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: site.String()}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := gateway.ParseCertificateDER(der)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ParseKey((&Key{certificate: cert, private: private}).PEM())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ParseSealed(envelope(t, EncodeCall("a/b"), old, old, site, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := sealed.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ParseSigned(opened.Plaintext)
	if err != nil {
		t.Fatal(err)
	}
	if err := signed.Verify(old.Certificate()); err != nil {
		t.Error(err)
	}
}

func TestAKeyDoesNotPrintItsSecret(t *testing.T) {
	key := recordedKey(t, "idp")
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{key, &Server{Keys: keysOf(key)}, Client{Keys: keysOf(key)}} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, key.private.D.String()) || strings.Contains(s, key.private.Primes[0].String()) {
				t.Errorf("%s of %T tells the private key", format, v)
			}
		}
	}
}

func TestDerivedSecretsDependOnKeyAndLabelAlone(t *testing.T) {
	key, other := recordedKey(t, "idp"), recordedKey(t, "sp")
	again, err := ParseKey(key.PEM())
	if err != nil {
		t.Fatal(err)
	}
	if key.Derive("cookies") != again.Derive("cookies") {
		t.Error("the same key in another form derives another secret")
	}
	if key.Derive("cookies") == key.Derive("cache") || key.Derive("cookies") == other.Derive("cookies") {
		t.Error("two labels or keys share a secret")
	}
}

func TestProcessesThatStartAtOnceShareOneKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.key")
	site := wwwroot(t, "http://idp.test")
	const n = 4
	keys, created := make([]*Key, n), make([]bool, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if keys[i], created[i], err = LoadOrCreateKey(file, site, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	makers := 0
	for i := range n {
		if !keys[i].private.Equal(keys[0].private) || keys[i].Certificate().Fingerprint() != keys[0].Certificate().Fingerprint() {
			t.Error("two processes hold different keys")
		}
		if created[i] {
			makers++
		}
	}
	if makers != 1 {
		t.Errorf("%d processes made the key", makers)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, error %v", entries, err)
	}
}

func TestAKeyFileMustBeOursAlone(t *testing.T) {
	dir := t.TempDir()
	site := wwwroot(t, "http://idp.test:8080")
	pem := recordedKey(t, "idp").PEM()
	write := func(name string, content []byte, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if key, created, err := LoadOrCreateKey(write("good", pem, 0o600), site, time.Now()); err != nil || created || key == nil {
		t.Errorf("a good file: %t, %v", created, err)
	}
	for name, c := range map[string]struct {
		file string
		site string
		err  string
	}{
		"writable by the group":  {write("group", pem, 0o660), site.String(), "0660"},
		"readable by the world":  {write("world", pem, 0o604), site.String(), "0604"},
		"of another site":        {write("other", pem, 0o600), "http://sp.test", "another site"},
		"cut off":                {write("short", pem[:len(pem)/2], 0o600), site.String(), "no PEM private key"},
		"empty":                  {write("empty", nil, 0o600), site.String(), "no PEM certificate"},
		"huge":                   {write("huge", bytes.Repeat([]byte("\n"), maxFile+1), 0o600), site.String(), "at most"},
		"a directory":            {dir, site.String(), "not a file"},
		"in no directory at all": {filepath.Join(dir, "none", "key"), site.String(), "no such file"},
	} {
		_, _, err := LoadOrCreateKey(c.file, wwwroot(t, c.site), time.Now())
		if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), dir) {
			t.Errorf("a file %s: error %v, want one about %q", name, err, c.err)
		}
	}
}
