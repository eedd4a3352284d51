package mnet

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// recordedOpeners reads the private keys of the captures as they lie there:
// in base64, without certificates.
func recordedOpeners(t testing.TB) []*Opener {
	t.Helper()
	var all []*Opener
	for _, name := range []string{"stranger", "sp2", "sp2-old", "idp", "sp"} {
		found, err := ParseOpeners(readCapture(t, "keys/"+name+".key.b64"))
		if err != nil || len(found) != 1 || found[0].Certificate() != nil {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		all = append(all, found...)
	}
	return all
}

func TestEveryCaptureOpens(t *testing.T) {
	keys := recordedOpeners(t)
	certificates := recordedKeys()
	for _, name := range recordedMessages(t) {
		l := OpenLayers(readCapture(t, name+".xml"), keys...)
		if l.Err != nil {
			t.Errorf("%s: %v", name, l.Err)
			continue
		}
		if name != "ok-replayed-envelope/request" { // only its envelope is recorded
			want, err := os.ReadFile(filepath.Join(captures, name+".xmlrpc.xml"))
			if err != nil {
				want = readCapture(t, name+".xml") // plain
			}
			equalBytes(t, l.Payload, want)
		}
		if (l.Sealed == nil) != (l.Opened == nil) || l.Sealed != nil && (l.KeyBits != 2048 || l.DataSize < len(l.Payload)) {
			t.Errorf("%s: sealed %v, opened %v, %d bits, %d bytes", name, l.Sealed, l.Opened, l.KeyBits, l.DataSize)
		}
		if l.Signed != nil && !slices.ContainsFunc(certificates, func(k *Key) bool { return l.Signed.Verify(k.Certificate()) == nil }) {
			t.Errorf("%s: signed by nobody", name)
		}
		if l.WrongDigest || l.SaysDSA {
			t.Errorf("%s: wrong digest %t, dsa %t", name, l.WrongDigest, l.SaysDSA)
		}
		request := strings.HasSuffix(name, "/request")
		if request != (l.Method != "") || request == (l.Answer != nil || l.Fault != nil) {
			t.Errorf("%s: method %q, answer %v, fault %v", name, l.Method, l.Answer, l.Fault)
		}
	}
}

func TestLayersEndWhereAMessageDoes(t *testing.T) {
	idp, sp := recordedKey(t, "idp"), recordedKey(t, "sp")
	site := wwwroot(t, "http://idp.test:8080")
	keys, err := ParseOpeners(sp.PEM())
	if err != nil || keys[0].Certificate().Fingerprint() != sp.Certificate().Fingerprint() {
		t.Fatalf("%v, %v", keys, err)
	}
	call := EncodeCall("a/b", "x")
	signed, err := Sign(call, idp, site, time.Unix(1795336536, 0))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte { return bytes.Replace(signed, []byte(old), []byte(new), 1) }
	notXML, err := Sign([]byte("hello"), idp, site, time.Unix(1795336536, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, doc                        string
		sealed, opened, isSigned, method bool
		payload                          string
		err                              string
	}{
		{"sealed and signed", string(seal(t, signed, sp, site)), true, true, true, true, string(call), ""},
		{"sealed for somebody else", string(seal(t, signed, idp, site)), true, false, false, false, "", "none of our keys"},
		{"sealed only", string(seal(t, call, sp, site)), true, true, false, true, string(call), ""},
		{"signed only", string(signed), false, false, true, true, string(call), ""},
		{"plain", string(call), false, false, false, true, string(call), ""},
		{"plain with space around it", "\r\n" + string(call) + "\n", false, false, false, true, "\r\n" + string(call) + "\n", ""},
		{"signed, but no XML-RPC", string(seal(t, notXML, sp, site)), true, true, true, false, "hello", "not XML-RPC"},
		{"a broken seal", strings.Replace(string(seal(t, signed, sp, site)), "CipherValue", "X", 2), false, false, false, false, "", "sealed message: "},
		{"a broken signature", string(edit("</object>", "!</object>")), false, false, false, false, "", "signed message: "},
		{"broken XML-RPC", "<methodCall></methodCall>", false, false, false, false, "<methodCall></methodCall>", "without a method name"},
		{"a page", "<!DOCTYPE html>\n<html>", false, false, false, false, "", "a page of HTML"},
		{"a page of XHTML", "<html><body/></html>", false, false, false, false, "", "a page of HTML"},
		{"nothing", " \n", false, false, false, false, "", "it is empty"},
		{"something", "POST / HTTP/1.1", false, false, false, false, "", "no message of MNet"},
		{"another document", "<rss/>", false, false, false, false, "", "no message of MNet"},
	} {
		l := OpenLayers([]byte(test.doc), keys...)
		if (l.Sealed != nil) != test.sealed || (l.Opened != nil) != test.opened || (l.Signed != nil) != test.isSigned ||
			(l.Method != "") != test.method || string(l.Payload) != test.payload {
			t.Errorf("%s: %+v", test.name, l)
		}
		if test.err == "" && l.Err != nil || test.err != "" && (l.Err == nil || !strings.Contains(l.Err.Error(), test.err)) {
			t.Errorf("%s: error %v, want %q", test.name, l.Err, test.err)
		}
	}
	if l := OpenLayers(edit("#rsa-sha1", "#dsa-sha1")); !l.SaysDSA || l.WrongDigest || l.Signed.Verify(idp.Certificate()) != nil {
		t.Errorf("an old label: %+v", l)
	}
	if l := OpenLayers(edit("<DigestValue>", "<DigestValue>0")); l.SaysDSA || !l.WrongDigest || l.Signed.Verify(idp.Certificate()) != nil {
		t.Errorf("a wrong digest: %+v", l)
	}
}

func TestOpenersAreFoundInAllForms(t *testing.T) {
	sp, old := recordedKey(t, "sp2"), recordedKey(t, "sp2-old")
	certificate, private, _ := strings.Cut(string(sp.PEM()), "-----BEGIN PRIVATE")
	private = "-----BEGIN PRIVATE" + private
	oldCertificate, oldPrivate, _ := strings.Cut(string(old.PEM()), "-----BEGIN PRIVATE")
	oldPrivate = "-----BEGIN PRIVATE" + oldPrivate
	both := []string{sp.String(), old.String()}
	for _, test := range []struct {
		name, file string
		want       []string // fingerprints; empty for keys without certificate
		err        string
	}{
		{"PEM", certificate + private, both[:1], ""},
		{"PEM, the key first", private + certificate, both[:1], ""},
		{"a private key alone", private, []string{""}, ""},
		{"another certificate", oldCertificate + private, []string{""}, ""},
		{"Moodle's pair", certificate + "@@@@@@@@" + private, both[:1], ""},
		{"Moodle's pair without line ends", strings.TrimSpace(certificate) + "@@@@@@@@" + strings.TrimSpace(private), both[:1], ""},
		{"two pairs", certificate + private + oldCertificate + oldPrivate, both, ""},
		{"Moodle's history", `a:2:{i:0;a:1:{s:11:"keypair_PEM";s:9:"` + certificate + "@@@@@@@@" + private + `";}i:1;a:1:{s:11:"keypair_PEM";s:9:"` +
			oldCertificate + "@@@@@@@@" + oldPrivate + `";}}`, both, ""},
		{"a certificate alone", certificate, nil, "no private key"},
		{"an encrypted key", strings.ReplaceAll(private, " PRIVATE", " ENCRYPTED PRIVATE"), nil, "passphrase"},
		{"nothing", "", nil, "no private key"},
		{"base64 of something", "aGVsbG8=", nil, "no private key"},
		{"too many", strings.Repeat(private, maxOpeners+1), nil, "too many"},
	} {
		found, err := ParseOpeners([]byte(test.file))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.name, err, test.err)
			}
			continue
		}
		var got []string
		for _, o := range found {
			name := ""
			if c := o.Certificate(); c != nil {
				name = "key " + c.Fingerprint().String()
			}
			got = append(got, name)
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

func TestFaultsHaveAMeaning(t *testing.T) {
	for name, want := range map[string]string{
		"err-unknown-peer":         unknownPeerMeaning, // although its code is 0
		"err-sealed-for-wrong-key": notOpenedMeaning,
		"err-wrong-signing-key":    meanings[FaultBadSignature],
		"fault-7025-old-key":       meanings[FaultNewKey],
		"err-missing-params":       meanings[FaultParameters],
	} {
		fault := OpenLayers(readCapture(t, name+"/response.xml"), recordedOpeners(t)...).Fault
		if fault == nil || fault.Meaning() != want || fault.UnknownPeer() != (want == unknownPeerMeaning) {
			t.Errorf("%s: %v means %q", name, fault, fault.Meaning())
		}
	}
	if m := (&Fault{Code: FaultNewKey, String: "Your key is old"}).Meaning(); m != notOpenedMeaning { // Mahara
		t.Errorf("7025 without a certificate means %q", m)
	}
	if m := (&Fault{Code: FaultOther, String: "Error"}).Meaning(); m != "" {
		t.Errorf("0 means %q", m)
	}
}

// However a message is broken, OpenLayers ends, says why, and shows nothing
// that is not in it.
func FuzzOpenLayers(f *testing.F) {
	addRecorded(f, "*/re*.xml")
	f.Add([]byte("<!doctype html>"))
	keys := recordedOpeners(f)[3:4]
	f.Fuzz(func(t *testing.T, doc []byte) {
		l := OpenLayers(doc, keys...)
		switch {
		case l.Err == nil && l.Payload == nil,
			l.Opened != nil && l.Sealed == nil,
			l.Method != "" && (l.Answer != nil || l.Fault != nil),
			l.Err == nil && l.Method == "" && l.Answer == nil && l.Fault == nil:
			t.Errorf("%+v", l)
		case errors.Is(l.Err, ErrNotOpened) && (l.Opened != nil || l.Payload != nil):
			t.Errorf("%+v", l)
		}
	})
}

func FuzzParseOpeners(f *testing.F) {
	for _, key := range recordedKeys() {
		f.Add(key.PEM())
	}
	f.Add(readCapture(f, "keys/idp.key.b64"))
	sealed := readCapture(f, "user_authorise/request.xml")
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := ParseOpeners(b)
		if (err == nil) != (len(found) > 0) {
			t.Errorf("%v, %v", found, err)
		}
		for _, o := range found {
			OpenLayers(sealed, o)
		}
	})
}
