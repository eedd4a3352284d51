package mnet

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"

	"github.com/google/go-cmp/cmp"
)

const captures = "testdata/captures"

// loadRecordedKeys reads the throw-away keys of the captures.
var loadRecordedKeys = sync.OnceValue(func() map[string]*Key {
	keys := map[string]*Key{}
	for _, name := range []string{"idp", "sp", "sp2", "sp2-old", "stranger"} {
		cert, err := os.ReadFile(filepath.Join(captures, "keys", name+".cert.pem"))
		if err != nil {
			panic(err)
		}
		encoded, err := os.ReadFile(filepath.Join(captures, "keys", name+".key.b64"))
		if err != nil {
			panic(err)
		}
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(encoded)), ""))
		if err != nil {
			panic(err)
		}
		private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}) // PKCS #1
		if keys[name], err = ParseKey(append(cert, private...)); err != nil {
			panic(err)
		}
	}
	return keys
})

func recordedKey(t testing.TB, name string) *Key {
	t.Helper()
	key := loadRecordedKeys()[name]
	if key == nil {
		t.Fatalf("no recorded key %s", name)
	}
	return key
}

// keysOf is a site's Keys that never change.
func keysOf(keys ...*Key) func() []*Key { return func() []*Key { return keys } }

func keyFunc(key *Key) func() *Key { return func() *Key { return key } }

func recordedKeys() []*Key {
	keys := loadRecordedKeys()
	return []*Key{keys["idp"], keys["sp"], keys["sp2"], keys["sp2-old"], keys["stranger"]}
}

func readCapture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(captures, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// recordedMessages returns the outermost layers: "user_authorise/request".
func recordedMessages(t testing.TB) []string {
	var names []string
	err := filepath.WalkDir(captures, func(path string, d fs.DirEntry, err error) error {
		if base := filepath.Base(path); base == "request.xml" || base == "response.xml" {
			name, _ := filepath.Rel(captures, strings.TrimSuffix(path, ".xml"))
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil || len(names) < 80 {
		t.Fatalf("%d recorded messages, error %v", len(names), err)
	}
	return names
}

func TestEveryCaptureDecodesToItsRecordedLayers(t *testing.T) {
	for _, name := range recordedMessages(t) {
		t.Run(name, func(t *testing.T) {
			doc := readCapture(t, name+".xml")
			sender := ""
			if rootOf(doc) == "encryptedmessage" {
				sealed, err := ParseSealed(doc)
				if err != nil {
					t.Fatal(err)
				}
				opened, err := sealed.Open(recordedKeys()...)
				if err != nil {
					t.Fatal(err)
				}
				sender, doc = sealed.Wwwroot, opened.Plaintext
				switch {
				case name == "ok-replayed-envelope/request": // only its envelope is recorded
					return
				case rootOf(doc) == "signedmessage":
					equalBytes(t, doc, readCapture(t, name+".signed.xml"))
				default:
					equalBytes(t, doc, readCapture(t, name+".xmlrpc.xml"))
				}
			}
			if rootOf(doc) == "signedmessage" {
				doc = checkRecordedSignature(t, doc, sender)
				equalBytes(t, doc, readCapture(t, name+".xmlrpc.xml"))
			}
			checkRecordedXMLRPC(t, doc)
		})
	}
}

func equalBytes(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("layers differ (-recorded +decoded):\n%s", cmp.Diff(string(want), string(got)))
	}
}

// checkRecordedSignature returns the payload. Signing it again must yield the
// same bytes if a Moodle wrote them: the signature is deterministic.
func checkRecordedSignature(t *testing.T, doc []byte, sender string) []byte {
	t.Helper()
	signed, err := ParseSigned(doc)
	if err != nil {
		t.Fatal(err)
	}
	if sender != "" && signed.Wwwroot != sender {
		t.Errorf("inner wwwroot %s, outer %s", signed.Wwwroot, sender)
	}
	keys := recordedKeys()
	i := slices.IndexFunc(keys, func(k *Key) bool { return signed.Verify(k.Certificate()) == nil })
	if i < 0 {
		t.Fatal("signed with none of the recorded keys")
	}
	for other, key := range keys {
		if other != i && signed.Verify(key.Certificate()) == nil {
			t.Error("two keys verify one signature")
		}
	}
	if bytes.Contains(doc, []byte("\n    <signedMessage>")) {
		again, err := Sign(signed.Payload, keys[i], wwwroot(t, signed.Wwwroot), signed.Timestamp)
		if err != nil {
			t.Fatal(err)
		}
		equalBytes(t, again, doc)
	}
	return signed.Payload
}

// checkRecordedXMLRPC decodes doc. Encoding it again must yield the same bytes
// if it has a layout that we write.
func checkRecordedXMLRPC(t *testing.T, doc []byte) {
	t.Helper()
	if rootOf(doc) == "methodcall" {
		method, params, err := DecodeCall(doc)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(doc, []byte(`encoding="utf-8" ?>`)) && !bytes.Contains(doc, []byte("<value></value>")) {
			equalBytes(t, EncodeCall(method, params...), doc)
		}
		return
	}
	v, err := DecodeResponse(doc)
	fault, ok := err.(*Fault)
	switch {
	case ok && bytes.Contains(doc, []byte("\n   <fault>\n")):
		equalBytes(t, EncodeFault(fault), doc)
	case ok:
	case err != nil:
		t.Fatal(err)
	default:
		equalBytes(t, EncodeResponse(v), doc)
	}
}

func TestTheRecordedFaultsAreRead(t *testing.T) {
	for name, want := range map[string]int{
		"err-unknown-token":     FaultNoSession,
		"err-expired-token":     FaultSessionTimedOut,
		"err-missing-params":    FaultParameters,
		"err-bad-method-syntax": FaultMethodName,
		"err-unknown-method":    FaultNoMethod,
		"fault-7025-old-key":    FaultNewKey,
	} {
		_, err := DecodeResponse(readCapture(t, name+"/response.xmlrpc.xml"))
		if fault, ok := err.(*Fault); !ok || fault.Code != want {
			t.Errorf("%s: %v, want fault %d", name, err, want)
		}
	}
}

var cipherValues = regexp.MustCompile(`<CipherValue>[^<]*</CipherValue>`)

func TestASealedMessageHasMoodlesLayout(t *testing.T) {
	sealed, err := Seal([]byte("x"), recordedKey(t, "sp").Certificate(), wwwroot(t, "http://idp.test:8080"))
	if err != nil {
		t.Fatal(err)
	}
	recorded := readCapture(t, "user_authorise/response.xml")
	equalBytes(t, cipherValues.ReplaceAll(sealed, nil), cipherValues.ReplaceAll(recorded, nil))
}

// envelope returns doc signed by one key and sealed for another.
func envelope(t testing.TB, doc []byte, by, to *Key, from gateway.Wwwroot, at time.Time) []byte {
	t.Helper()
	signed, err := Sign(doc, by, from, at)
	if err != nil {
		t.Fatal(err)
	}
	return seal(t, signed, to, from)
}

func seal(t testing.TB, doc []byte, to *Key, from gateway.Wwwroot) []byte {
	t.Helper()
	sealed, err := Seal(doc, to.Certificate(), from)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}
