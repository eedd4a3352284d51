package config

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
)

// testDir changes to a new directory that has the files of testFiles.
func testDir(t testing.TB) string {
	t.Helper()
	dir := testFiles(t)
	t.Chdir(dir)
	return dir
}

// testFiles makes a directory with the files that configurations in tests
// name.
func testFiles(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := pairs()
	write := func(name string, mode os.FileMode, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("sp.pem", 0o644, p.spCert)
	write("other.pem", 0o644, p.otherCert)
	write("tls.pem", 0o644, p.spCert)
	write("tls.key", 0o600, p.spKey)
	write("other.key", 0o600, p.otherKey)
	write("open.key", 0o644, p.spKey)
	write("password", 0o600, []byte("hunter2\n"))
	write("secret", 0o600, []byte("hunter2hunter2hunter2\n"))
	write("empty", 0o600, nil)
	write("badnames", 0o644, []byte("ada\n\nbob *and* carol\n"))
	write("names", 0o644, []byte("\ufeffcarol\n# teachers\r\n\n Dave@home.test \r\ncarol"))
	write("usernames.csv", 0o644, []byte("\ufeff# renamed\r\nAda.King@college.example, ada\r\n\"x,y@college.example\",grace\r\n"))
	write("usernames-bad.csv", 0o644, []byte("a@college.example,ada\nb@college.example;ada\nc@college.example,ada\nd@college.example,Ada\nA@college.example,anna\n"))
	write("usernames-quote.csv", 0o644, []byte("a@college.example,ada\n\"b@college.example,bob\n"))
	if err := os.Chmod(filepath.Join(dir, "open.key"), 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return dir
}

type pemPairs struct{ spCert, spKey, otherCert, otherKey []byte }

// pairs makes the certificates of https://sp.example.org and
// https://other.example.org as Moodle makes them.
var pairs = sync.OnceValue(func() (p pemPairs) {
	p.spCert, p.spKey = pair("https://sp.example.org")
	p.otherCert, p.otherKey = pair("https://other.example.org")
	return p
})

func pair(wwwroot string) (certificate, key []byte) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		Subject: pkix.Name{CommonName: wwwroot, ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: wwwroot},
		}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// describe returns what an administrator would read of an error and of its
// hint, a line each, with names that are the same on every run.
func describe(err error) (message, hint string) {
	if h, ok := err.(interface{ Hint() string }); ok {
		hint = h.Hint()
	}
	dir, _ := os.Getwd()
	certificate, _ := gateway.ParseCertificate(pairs().spCert)
	stable := strings.NewReplacer(dir, "DIR", certificate.Fingerprint().String(), "SHA256:SP")
	return stable.Replace(err.Error()) + "\n", stable.Replace(hint) + "\n"
}

func writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// load loads text as a configuration in the working directory.
func load(t testing.TB, text string) *Config {
	t.Helper()
	writeFile(t, "jumpgate.yaml", text)
	c, err := Load("jumpgate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}
