package mnet

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"

	"github.com/google/go-cmp/cmp"
)

// addRecorded adds the recorded documents of one layer as seeds.
func addRecorded(f *testing.F, pattern string) {
	files, err := filepath.Glob(filepath.Join(captures, pattern))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds %s, error %v", pattern, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// What was read must survive being written and read again.
func FuzzDecodeCall(f *testing.F) {
	addRecorded(f, "*/request.xmlrpc.xml")
	f.Add([]byte("<?xml version='1.0' encoding='iso-8859-1'?><methodCall><!-- x --><methodName>a</methodName><params><param><value><![CDATA[\xe9]]></value></param></params></methodCall>"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkScanner(t, doc)
		method, params, err := DecodeCall(doc)
		if err != nil {
			return
		}
		// References can make a document longer.
		method2, params2, err := DecodeCall(EncodeCall(method, params...))
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil || method2 != clean(method) || !cmp.Equal(cleanAll(params), cleanAll(params2)) {
			t.Errorf("%v: %s and %s\n%s", err, method, method2, cmp.Diff(params, params2))
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	addRecorded(f, "*/response.xmlrpc.xml")
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkScanner(t, doc)
		v, err := DecodeResponse(doc)
		if fault, ok := errors.AsType[*Fault](err); ok {
			_, err := DecodeResponse(EncodeFault(fault))
			if again, ok := errors.AsType[*Fault](err); ok && (again.Code != fault.Code || again.String != clean(fault.String)) {
				t.Errorf("%v and %v", fault, again)
			}
			return
		}
		if err != nil {
			return
		}
		v2, err := DecodeResponse(EncodeResponse(v))
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil || !cmp.Equal(cleanAll(Array{v}), cleanAll(Array{v2})) {
			t.Errorf("%v\n%s", err, cmp.Diff(v, v2))
		}
	})
}

// clean returns what is left of a string that XML cannot carry.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !isChar(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

func cleanAll(values []Value) string {
	var b strings.Builder
	for _, v := range values {
		switch v := v.(type) {
		case Array:
			b.WriteString("[" + cleanAll(v) + "]")
		case Struct:
			for _, m := range v {
				b.WriteString(clean(m.Name) + "=" + cleanAll(Array{m.Value}) + ";")
			}
		default:
			b.WriteString(clean(Text(v)) + ",")
		}
	}
	return b.String()
}

// checkScanner compares the scanner with encoding/xml: where both read a
// document, both see the same elements and text.
func checkScanner(t *testing.T, doc []byte) {
	t.Helper()
	ours, err := scanOurs(doc)
	if err != nil {
		return
	}
	theirs, err := scanTheirs(doc)
	if err != nil {
		return
	}
	if ours != theirs {
		t.Errorf("scanner:      %q\nencoding/xml: %q", ours, theirs)
	}
}

func scanOurs(doc []byte) (string, error) {
	s, err := newScanner(doc)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for {
		token, err := s.next()
		if err != nil {
			return "", err
		}
		switch token.kind {
		case tokenEOF:
			return b.String(), nil
		case tokenStart:
			b.WriteString("<" + string(token.name) + ">")
		case tokenEnd:
			b.WriteString("</" + string(token.name) + ">")
		default:
			text, err := s.decode(token)
			if err != nil {
				return "", err
			}
			b.Write(text)
		}
	}
}

func scanTheirs(doc []byte) (string, error) {
	doc = bytes.TrimFunc(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")), isSpaceRune)
	d := xml.NewDecoder(bytes.NewReader(doc))
	d.CharsetReader = func(label string, in io.Reader) (io.Reader, error) {
		if !strings.EqualFold(label, "iso-8859-1") {
			return in, nil
		}
		b, err := io.ReadAll(in)
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		return strings.NewReader(string(runes)), err
	}
	var b strings.Builder
	depth := 0
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			b.WriteString("<" + qualified(token.Name) + ">")
		case xml.EndElement:
			depth--
			b.WriteString("</" + qualified(token.Name) + ">")
		case xml.CharData:
			if depth > 0 {
				b.Write(token)
			}
		}
	}
}

func qualified(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

func FuzzParseSigned(f *testing.F) {
	addRecorded(f, "*/re*.signed.xml")
	key := loadRecordedKeys()["idp"]
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkScanner(t, doc)
		signed, err := ParseSigned(doc)
		if err != nil {
			return
		}
		if signed.Wwwroot == "" || len(signed.Wwwroot) > maxWwwroot || signed.Timestamp.Unix() < 0 {
			t.Errorf("%+v", signed)
		}
		_ = signed.Verify(key.Certificate())
	})
}

func FuzzParseSealed(f *testing.F) {
	addRecorded(f, "*/request.xml")
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkScanner(t, doc)
		sealed, err := ParseSealed(doc)
		if err != nil {
			return
		}
		if sealed.Wwwroot == "" || len(sealed.Wwwroot) > maxWwwroot {
			t.Errorf("%+v", sealed)
		}
		if _, err := sealed.Open(recordedKeys()[:1]...); err != nil && err != ErrNotOpened {
			t.Error(err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, key := range recordedKeys() {
		f.Add(key.PEM())
		f.Add([]byte(strings.Replace(string(key.PEM()), "-----\n-----BEGIN", "-----\n@@@@@@@@-----BEGIN", 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParseKey(b)
		if err != nil {
			return
		}
		again, err := ParseKey(key.PEM())
		if err != nil || !again.private.Equal(key.private) {
			t.Errorf("a key does not survive its own PEM: %v", err)
		}
		if _, err := Sign([]byte("x"), key, loadSite, time.Unix(0, 0)); err != nil {
			t.Error(err)
		}
	})
}

// Whatever a peer, or somebody in between, answers: a fault that came without
// our envelopes is marked, and nothing else is one or a value.
func FuzzAnswer(f *testing.F) {
	addRecorded(f, "*/response.xml")
	f.Add(EncodeFault(&Fault{Code: FaultNewKey, String: recordedKey(f, "idp").Certificate().PEM()}))
	f.Add([]byte("<signedMessage>"))
	peer := &gateway.Peer{Wwwroot: wwwroot(f, "http://idp.test:8080")}
	cert := recordedKey(f, "idp").Certificate()
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &Client{Keys: keysOf(recordedKey(t, "stranger")), Site: wwwroot(t, "http://sp.test:8090"), HTTP: &http.Client{
			Transport: transport(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
			}),
		}}
		v, err := c.Call(t.Context(), peer, cert, "system/listServices")
		if err == nil {
			t.Fatalf("%v from an answer that nobody sealed for us", v)
		}
		if fault, ok := errors.AsType[*Fault](err); ok && !fault.Unauthenticated {
			t.Errorf("%v counts as the peer's", fault)
		}
		if len(err.Error()) > 4<<10 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
