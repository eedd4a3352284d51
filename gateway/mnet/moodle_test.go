package mnet

import (
	"bytes"
	"crypto"
	"crypto/rc4"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

// moodleParser collects from an envelope what Moodle's parser collects (section
// 3.3): by qualified name in any letter case, the texts of one name joined,
// except for the CipherValues. Any end tag ends the collecting.
type moodleParser struct {
	text    map[string]string
	ciphers []string
}

func parseLikeMoodle(t *testing.T, doc []byte) *moodleParser {
	t.Helper()
	p := &moodleParser{text: map[string]string{}}
	d := xml.NewDecoder(bytes.NewReader(doc))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	current := ""
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			current = strings.ToUpper(token.Name.Local)
			if token.Name.Space != "" {
				current = strings.ToUpper(token.Name.Space) + ":" + current
			}
			if current == "CIPHERVALUE" {
				p.ciphers = append(p.ciphers, "")
			}
		case xml.EndElement:
			current = ""
		case xml.CharData:
			if current == "CIPHERVALUE" {
				p.ciphers[len(p.ciphers)-1] += string(token)
			} else {
				p.text[current] += string(token)
			}
		}
	}
}

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAMoodleReadsOurEnvelopes(t *testing.T) {
	idp, sp := recordedKey(t, "idp"), recordedKey(t, "sp")
	site := wwwroot(t, "http://idp.test:8080")
	payload := EncodeResponse(Struct{{"firstname", "Zoë"}})
	doc := envelope(t, payload, idp, sp, site, time.Unix(1795336536, 0))

	outer := parseLikeMoodle(t, doc)
	if n := len(outer.ciphers); n != 2 {
		t.Fatalf("%d CipherValues", n)
	}
	key, err := rsa.DecryptPKCS1v15(nil, sp.private, unbase64(t, outer.ciphers[1])) //lint:ignore SA1019 as Moodle does
	if err != nil || len(key) != 16 {
		t.Fatalf("session key of %d bytes, error %v", len(key), err)
	}
	stream, err := rc4.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	plaintext := unbase64(t, outer.ciphers[0])
	stream.XORKeyStream(plaintext, plaintext)
	if at := strings.Index(string(plaintext[:100]), "<signedMessage>"); at < 1 {
		t.Errorf("<signedMessage> at %d of the first 100 bytes, not behind a declaration", at)
	}

	inner := parseLikeMoodle(t, plaintext)
	if inner.text["WWWROOT"] != site.String() || outer.text["WWWROOT"] != site.String() {
		t.Errorf("wwwroots %q and %q", inner.text["WWWROOT"], outer.text["WWWROOT"])
	}
	if got := inner.text["TIMESTAMP"]; got != "1795336536" {
		t.Errorf("timestamp %q", got)
	}
	if got := unbase64(t, inner.text["OBJECT"]); !bytes.Equal(got, payload) {
		t.Errorf("payload %q", got)
	}
	digest := sha1.Sum(payload)
	err = rsa.VerifyPKCS1v15(&idp.private.PublicKey, crypto.SHA1, digest[:], unbase64(t, inner.text["SIGNATUREVALUE"]))
	if err != nil {
		t.Error(err)
	}
}

func TestAFaultHasWhiteSpaceWhereMoodlesClientNeedsIt(t *testing.T) {
	doc := EncodeFault(&Fault{Code: FaultUnknownPeer, String: "who are you?"})
	_, after, _ := strings.Cut(string(doc), "<fault>")
	if between, _, _ := strings.Cut(after, "<value>"); between == "" || strings.TrimSpace(between) != "" {
		t.Errorf("between <fault> and <value>: %q", between)
	}
}
