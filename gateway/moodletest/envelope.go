package moodletest

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// envelope is what Moodle's parser collects from an envelope, of either kind,
// or from a plain answer (protocol page, section 3.3; mnet/xmlrpc/xmlparser.php
// (source)). It is written from Moodle's facts and shares nothing with the
// parser of package mnet, so that an envelope which a Moodle would misread is
// misread here too. Its rules, each tried with PHP's parser:
//
//   - elements are known by their qualified names, in any letter case and at any
//     depth; there are no namespaces, so a prefixed name is another name
//   - text counts up to the next tag of any kind
//   - texts of one name are joined, except those of CipherValue
//   - what was collected before an error, or before the end of a message that
//     is cut off, is used
//   - a fault is noticed only if there is text, white space that is, between
//     <fault> and the next tag
type envelope struct {
	ciphers   []string
	signature string
	object    string
	wwwroot   string
	timestamp string

	fault string // a plain fault as Moodle's administrators read it
	err   error  // of the XML
}

func parseEnvelope(doc []byte) *envelope {
	e := &envelope{}
	if !bytes.HasPrefix(doc, []byte("<?xml")) && bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("<?xml")) {
		e.err = errors.New("reserved XML Name")
		return e
	}
	d := xml.NewDecoder(bytes.NewReader(doc))
	d.CharsetReader = charset
	var into *string
	var faults faultReader
	for {
		t, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			e.err = err
			break
		}
		switch t := t.(type) {
		case xml.StartElement:
			into = e.field(t.Name)
			faults.begin = t.Name.Space == "" && strings.EqualFold(t.Name.Local, "fault")
		case xml.EndElement:
			into, faults.begin = nil, false
		case xml.CharData:
			if into != nil {
				*into += string(t)
			} else {
				faults.read(string(t))
			}
		}
	}
	e.fault = faults.text
	if e.fault != "" {
		e.ciphers = nil
	}
	return e
}

// field returns where the text of an element goes, or nil.
func (e *envelope) field(name xml.Name) *string {
	if name.Space != "" {
		return nil
	}
	switch strings.ToUpper(name.Local) {
	case "CIPHERVALUE":
		e.ciphers = append(e.ciphers, "")
		return &e.ciphers[len(e.ciphers)-1]
	case "SIGNATUREVALUE":
		return &e.signature
	case "OBJECT":
		return &e.object
	case "WWWROOT":
		return &e.wwwroot
	case "TIMESTAMP":
		return &e.timestamp
	}
	return nil
}

// encrypted reports whether Moodle takes the message for an encrypted one.
func (e *envelope) encrypted() bool { return len(e.ciphers) > 0 }

// ciphertexts returns the last CipherValue as the key and the one before as the
// data, whatever they stand in.
func (e *envelope) ciphertexts() (data, key []byte) {
	n := len(e.ciphers)
	if n > 1 {
		data = phpBase64(e.ciphers[n-2])
	}
	return data, phpBase64(e.ciphers[n-1])
}

// faultReader follows the chunks of text that Moodle's parser looks at once a
// fault has begun. What it makes of them says little: the number is lost to
// the white space before it.
type faultReader struct {
	begin, begun  bool
	inCode, inMsg bool
	text          string
}

func (f *faultReader) read(chunk string) {
	switch {
	case f.begin:
		f.begun = true
		return
	case !f.begun:
		return
	}
	switch chunk = phpTrim(chunk); {
	case f.inMsg && chunk != "":
		f.text += ", message: " + chunk
	case f.inCode:
		f.text, f.inCode = "code: "+chunk, false
	case chunk == "faultCode":
		f.inCode = true
	case chunk == "faultString":
		f.inMsg = true
	}
}

// charset reads ISO-8859-1, which senders declare.
func charset(label string, in io.Reader) (io.Reader, error) {
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

// phpBase64 is base64_decode as MNet calls it: what is no letter of the
// alphabet is skipped, and an incomplete end is dropped.
func phpBase64(s string) []byte {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/') {
			return r
		}
		return -1
	}, s)
	if len(s)%4 == 1 {
		s = s[:len(s)-1]
	}
	b, _ := base64.RawStdEncoding.DecodeString(s) // only spare bits can be wrong
	return b
}

// phpTrim is PHP's trim.
func phpTrim(s string) string { return strings.Trim(s, " \t\n\r\x00\x0b") }
