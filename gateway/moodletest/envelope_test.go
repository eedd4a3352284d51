package moodletest

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// network is where the calls of a stand-in end instead.
type network func(url string, body []byte) []byte

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	answer := n(r.URL.String(), body)
	if answer == nil {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), Request: r}, nil
}

func (n network) client() *http.Client { return &http.Client{Transport: n} }

var sentAt = time.Unix(1795336500, 0)

const (
	homeName = "http://idp.test:8080"
	spName   = "http://sp.test:8090"
)

// callers are a Moodle and a Mahara that know the recorded home.
func callers(t *testing.T, n network) (*Forum, *Mahara) {
	t.Helper()
	home := capturedPeer(t, homeName, "idp")
	now := func() time.Time { return sentAt }
	moodle, err := NewForum(ForumOptions{Wwwroot: mustWwwroot(t, spName), Key: capturedKey(t, "sp"), Homes: []*gateway.Peer{home}, Client: n.client(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	mahara, err := NewMahara(MaharaOptions{Wwwroot: mustWwwroot(t, spName), Key: capturedKey(t, "sp"), Peers: []*gateway.Peer{home}, Client: n.client(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return moodle, mahara
}

// layersOf is an answer on its way into the envelopes, with what a test does
// to each of them.
type layersOf struct {
	payload []byte
	signer  string
	at      time.Time
	inner   func([]byte) []byte
	outer   func([]byte) []byte
}

func (l layersOf) wrap(t *testing.T) []byte {
	t.Helper()
	from := mustWwwroot(t, homeName)
	doc, err := mnet.Sign(l.payload, capturedKey(t, l.signer), from, l.at)
	if err != nil {
		t.Fatal(err)
	}
	if l.inner != nil {
		changed := l.inner(doc)
		if bytes.Equal(changed, doc) {
			t.Fatal("the test changes nothing inside")
		}
		doc = changed
	}
	if doc, err = mnet.Seal(doc, capturedKey(t, "sp").Certificate(), from); err != nil {
		t.Fatal(err)
	}
	if l.outer != nil {
		changed := l.outer(doc)
		if bytes.Equal(changed, doc) {
			t.Fatal("the test changes nothing outside")
		}
		doc = changed
	}
	return doc
}

func replace(old, new string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(new)) }
}

// keyFirst puts the EncryptedKey before the EncryptedData.
func keyFirst(b []byte) []byte {
	data, key := bytes.Index(b, []byte("<EncryptedData")), bytes.Index(b, []byte("<EncryptedKey"))
	end := bytes.Index(b, []byte("</EncryptedKey>")) + len("</EncryptedKey>")
	return bytes.Join([][]byte{b[:data], b[key:end], b[data:key], b[end:]}, nil)
}

func TestAnswersAreReadAsTheOriginalsReadThem(t *testing.T) {
	const (
		read         = ""
		notSealed    = "1:Payload not encrypted"
		notSigned    = "2:Payload not signed"
		noKey        = "3:No key match"
		badSignature = "Invalid signature"
		noPayload    = "xml: "
		noTime       = "unsupported operand types"
		gap          = "6:Time gap"

		decrypting  = "An error occurred while decrypting"
		malformed   = "Payload is not a valid XML document"
		insideXML   = "Encrypted payload is not a valid XML document"
		verifying   = "Maximum execution time" // it asks for a new key of the peer, for ever
		unknownForm = "Unrecognized XML document form"
		drift       = "Time drift"
		unknownPeer = "We don't have a record"
	)
	tests := []struct {
		name           string
		change         func(*layersOf)
		moodle, mahara string
	}{
		{"as we send them", func(*layersOf) {}, read, read},
		{"blanks around all of it", func(l *layersOf) { l.outer = func(b []byte) []byte { return []byte("\n " + string(b) + "\n") } }, read, read},
		{"base64 in lines", func(l *layersOf) { l.inner = replace("</object>", "\n</object>") }, read, read},
		{"a prefix on the ciphertexts", func(l *layersOf) { l.outer = replace("CipherValue>", "xenc:CipherValue>") }, notSealed, decrypting},
		{"the key before the data", func(l *layersOf) { l.outer = keyFirst }, noKey, read},
		{"names in upper case", func(l *layersOf) { l.outer = replace("CipherValue>", "CIPHERVALUE>") }, read, decrypting},
		{"a third ciphertext", func(l *layersOf) {
			l.outer = replace("<ReferenceList>", "<CipherValue>AAAA</CipherValue><ReferenceList>")
		}, noKey, read},
		{"an element inside a ciphertext", func(l *layersOf) { l.outer = replace("<CipherValue>", "<CipherValue><x/>") }, noKey, read},
		{"the end cut off", func(l *layersOf) { l.outer = replace("</encryptedMessage>", "") }, read, malformed},
		{"another root", func(l *layersOf) { l.outer = replace("encryptedMessage>", "x>") }, read, unknownForm},

		{"<signedMessage> at the very beginning", func(l *layersOf) {
			l.inner = func(b []byte) []byte { return b[bytes.Index(b, []byte("<signedMessage>")):] }
		}, notSigned, read},
		{"<signedMessage> with an attribute", func(l *layersOf) { l.inner = replace("<signedMessage>", `<signedMessage Id="x">`) }, notSigned, read},
		{"<signedMessage> far away", func(l *layersOf) {
			l.inner = replace("<signedMessage>", strings.Repeat(" ", 60)+"<signedMessage>")
		}, notSigned, read},
		{"a prefix on the object", func(l *layersOf) {
			l.inner = replace("<object ", "<m:object ")
			inner := l.inner
			l.inner = func(b []byte) []byte { return replace("</object>", "</m:object>")(inner(b)) }
		}, noPayload, verifying},
		{"a prefix on the signature", func(l *layersOf) { l.inner = replace("SignatureValue>", "ds:SignatureValue>") }, badSignature, verifying},
		{"an object of somebody else in front", func(l *layersOf) {
			l.inner = replace("<object ", "<object>AAAA</object><object ")
		}, noPayload, verifying},
		{"an object of somebody else behind", func(l *layersOf) {
			l.inner = replace("<wwwroot>", "<object>AAAA</object><wwwroot>")
		}, noPayload, read},
		{"two timestamps", func(l *layersOf) { l.inner = replace("</timestamp>", "</timestamp><timestamp>1</timestamp>") }, gap, read},
		{"no timestamp", func(l *layersOf) { l.inner = replace("timestamp>", "t>") }, noTime, read},
		{"another wwwroot inside", func(l *layersOf) { l.inner = replace("<wwwroot>http://idp", "<wwwroot>http://evil") }, read, unknownPeer},
		{"15 seconds ahead", func(l *layersOf) { l.at = sentAt.Add(15 * time.Second) }, read, read},
		{"16 seconds ahead", func(l *layersOf) { l.at = sentAt.Add(16 * time.Second) }, gap, drift},
		{"a day behind", func(l *layersOf) { l.at = sentAt.Add(-24 * time.Hour) }, read, read},
		{"somebody else's signature", func(l *layersOf) { l.signer = "stranger" }, badSignature, verifying},
		{"sealed and not signed", func(l *layersOf) { l.inner = func([]byte) []byte { return l.payload } }, notSigned, read},
		{"no XML inside", func(l *layersOf) { l.inner = func([]byte) []byte { return []byte("<methodResponse") } }, notSigned, insideXML},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := layersOf{payload: mnet.EncodeResponse(mnet.Array{"x"}), signer: "idp", at: sentAt}
			tt.change(&l)
			moodle, mahara := callers(t, func(string, []byte) []byte { return l.wrap(t) })
			_, err := moodle.Call(t.Context(), homeName, "system/listServices")
			expectError(t, "a Moodle", err, tt.moodle)
			_, err = mahara.Call(t.Context(), homeName, "system/listServices")
			expectError(t, "a Mahara", err, tt.mahara)
		})
	}
}

func expectError(t *testing.T, who string, err error, want string) {
	t.Helper()
	if got := fmt.Sprint(err); (want == "") != (err == nil) || !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
		t.Errorf("%s says %q, want %q", who, got, want)
	}
}

func TestPlainFaultsAreReadAsTheOriginalsReadThem(t *testing.T) {
	fault := string(mnet.EncodeFault(&mnet.Fault{Code: mnet.FaultUnknownPeer, String: "who are you?"}))
	for name, tt := range map[string]struct{ doc, moodle string }{
		"as we send them":                         {fault, "4: remote server error: code: , message: who are you?"},
		"without white space behind <fault>":      {strings.Join(strings.Fields(fault), ""), "1:Payload not encrypted"},
		"without white space but behind <fault>":  {"<methodResponse><fault> <value><struct><member><name>faultCode</name><value><int>7020</int></value></member></struct></value></fault></methodResponse>", "4: remote server error: code: 7020"},
		"a value instead of a fault":              {string(mnet.EncodeResponse("x")), "1:Payload not encrypted"},
		"something that is no XML":                {"<html><body>down", "1:Payload not encrypted"},
		"something that is not even text of HTML": {"&nbsp;", "3:XML Parse error"},
	} {
		t.Run(name, func(t *testing.T) {
			moodle, mahara := callers(t, func(string, []byte) []byte { return []byte(tt.doc) })
			_, err := moodle.Call(t.Context(), homeName, "system/listServices")
			expectError(t, "a Moodle", err, tt.moodle)
			v, err := mahara.Call(t.Context(), homeName, "system/listServices")
			if strings.Contains(tt.doc, "methodResponse") {
				if v != nil || err != nil { // whatever it says, a Mahara does not hear it
					t.Errorf("a Mahara reads %v, %v", v, err)
				}
			} else {
				expectError(t, "a Mahara", err, "Payload is not a valid XML document")
			}
		})
	}
}

func TestANewKeyIsTakenAsTheOriginalsTakeIt(t *testing.T) {
	old, renewed := capturedKey(t, "idp"), newKey(t, homeName)
	others := newKey(t, "http://evil.test")
	ragged := strings.Replace(renewed.Certificate().PEM(), "\n", "\n\n", 3)
	ragged = strings.Replace(ragged, "MII", "MI\nI", 1)
	tests := []struct {
		name           string
		text           string
		signer         *mnet.Key
		moodle, mahara string
		taken          bool // by the Moodle
	}{
		{"signed with the old key", renewed.Certificate().PEM(), old, "", "Unknown error occurred: : ", true},
		{"signed with the new key", renewed.Certificate().PEM(), renewed, "", "Maximum execution time", true},
		{"signed with anybody's key", renewed.Certificate().PEM(), capturedKey(t, "stranger"), "", "Maximum execution time", true},
		{"a certificate of somebody else", others.Certificate().PEM(), old, "Invalid signature", "the certificate is for http://evil.test", true},
		{"a PEM in other lines", ragged, old, "fault 7025", "Unknown error occurred: : ", true},
		{"a sentence", "We know nothing about the key", old, "fault 7025", "Could not parse new public key", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := map[string]int{}
			moodle, mahara := callers(t, func(_ string, body []byte) []byte {
				var signed string
				envelope := parseEnvelope(body)
				data, key := envelope.ciphertexts()
				opened, err := mnet.OpenCiphertexts(data, key, old, renewed, others)
				if err != nil {
					t.Fatal(err)
				}
				signed = "the current key"
				doc, signer := mnet.EncodeResponse(mnet.Array{"x"}), renewed
				if opened.Key == 0 {
					signed = "the old key"
					doc, signer = mnet.EncodeFault(&mnet.Fault{Code: mnet.FaultNewKey, String: tt.text}), tt.signer
				}
				calls[signed]++
				doc, err = mnet.Sign(doc, signer, mustWwwroot(t, homeName), sentAt)
				if err == nil {
					doc, err = mnet.Seal(doc, capturedKey(t, "sp").Certificate(), mustWwwroot(t, homeName))
				}
				if err != nil {
					t.Fatal(err)
				}
				return doc
			})
			_, err := moodle.Call(t.Context(), homeName, "system/listServices")
			expectError(t, "a Moodle", err, tt.moodle)
			if calls["the old key"] != 1 || (calls["the current key"] == 1) != tt.taken {
				t.Errorf("a Moodle calls %v", calls)
			}
			_, err = mahara.Call(t.Context(), homeName, "system/listServices")
			expectError(t, "a Mahara", err, tt.mahara)
			if tt.name == "signed with the old key" {
				if _, err = mahara.Call(t.Context(), homeName, "system/listServices"); err != nil {
					t.Errorf("a Mahara that has the new key: %v", err)
				}
			}
		})
	}
}

func newKey(t *testing.T, wwwroot string) *mnet.Key {
	t.Helper()
	key, err := mnet.NewKey(mustWwwroot(t, wwwroot), sentAt, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCertificatesHaveTheLayoutThatMoodleWants(t *testing.T) {
	good := newKey(t, homeName).Certificate().PEM()
	block, _ := pem.Decode([]byte(good))
	for name, tt := range map[string]struct {
		pem  string
		want bool
	}{
		"as we write it":         {good, true},
		"without the last break": {strings.TrimSpace(good), false},
		"Windows line ends":      {strings.ReplaceAll(good, "\n", "\r\n"), false},
		"with a header":          {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: block.Bytes})), false},
		"in one line":            {strings.Replace(good, good[28:92]+"\n", good[28:92], 1), false},
	} {
		if got := cleanPEM(tt.pem) == tt.pem; got != tt.want {
			t.Errorf("%s: accepted %v", name, got)
		}
	}
}

func TestRequestsAreReadAsTheOriginalsReadThem(t *testing.T) {
	const (
		faultUnknown = 0
		listed       = -1
	)
	for _, tt := range []struct {
		name           string
		change         func(*layersOf)
		moodle, mahara int // the code of the fault
	}{
		{"as we send them", func(*layersOf) {}, listed, listed},
		{"the key before the data", func(l *layersOf) { l.outer = keyFirst }, mnet.FaultNotOpened, listed},
		{"two wwwroots", func(l *layersOf) {
			l.outer = replace("</wwwroot>", "</wwwroot><wwwroot>/x</wwwroot>")
		}, faultUnknown, listed},
		{"blanks in front", func(l *layersOf) { l.outer = func(b []byte) []byte { return append([]byte("\n"), b...) } }, http.StatusNotFound, 6001},
		{"a stranger's name inside", func(l *layersOf) { l.inner = replace("<wwwroot>http://idp", "<wwwroot>http://evil") }, listed, 6003},
		{"sealed and not signed", func(l *layersOf) { l.inner = func([]byte) []byte { return l.payload } }, mnet.FaultNotSigned, 6005},
		{"a day ahead", func(l *layersOf) { l.at = sentAt.Add(24 * time.Hour) }, listed, listed},
		{"a method name with a dot", func(l *layersOf) { l.payload = mnet.EncodeCall("mod/x.y/z") }, mnet.FaultNoMethod, 6010},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := layersOf{payload: mnet.EncodeCall("system/listServices"), signer: "idp", at: sentAt}
			tt.change(&l)
			moodle, mahara := callers(t, func(string, []byte) []byte { return nil })
			for who, site := range map[string]struct {
				handler http.Handler
				url     string
				want    int
			}{
				"a Moodle": {moodle, spName + "/mnet/xmlrpc/server.php", tt.moodle},
				"a Mahara": {mahara, spName + "/api/xmlrpc/server.php", tt.mahara},
			} {
				w := record(t, site.handler, site.url, l.wrap(t))
				got := listed
				if w.Code != http.StatusOK {
					got = w.Code
				} else if _, err := mnet.DecodeResponse(opened(t, w.Body.Bytes())); err != nil {
					fault, ok := errors.AsType[*mnet.Fault](err)
					if !ok {
						t.Fatal(err)
					}
					got = fault.Code
				}
				if got != site.want {
					t.Errorf("%s answers %d, want %d", who, got, site.want)
				}
			}
		})
	}
}

// What our own parser accepts, a Moodle reads in the same way.
func FuzzSignedMessagesMeanTheSame(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join(captures, "*", "re*.signed.xml"))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds, error %v", err)
	}
	for _, name := range seeds {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		theirs := parseEnvelope(doc)
		if n, err := parseNode(doc); err == nil {
			n.get("Signature", "SignatureValue")
		}
		ours, err := mnet.ParseSigned(doc)
		if err != nil || theirs.err != nil {
			return
		}
		if !bytes.Equal(ours.Payload, phpBase64(theirs.object)) || !bytes.Equal(ours.Signature, phpBase64(theirs.signature)) ||
			ours.Wwwroot != theirs.wwwroot || strconv.FormatInt(ours.Timestamp.Unix(), 10) != strings.TrimLeft(phpTrim(theirs.timestamp), "+0") {
			t.Errorf("ours %+v\ntheirs %+v", ours, theirs)
		}
	})
}
