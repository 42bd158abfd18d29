"""Guesses a media type from a filename, from a table of its own, so that all machines guess the same.

`mimetypes` alone knows .webp, .docx or .parquet only where the system has a list of types, or Python is new. It answers
for suffixes that the table does not have. The types are IANA's. A suffix without a registered type has the type that
browsers or the system's lists use.
"""

from __future__ import annotations

import mimetypes
import os

UNKNOWN_TYPE = "application/octet-stream"

_TABLE = """
application/epub+zip epub
application/geo+json geojson
application/gpx+xml gpx
application/gzip gz tgz taz svgz
application/java-archive jar
application/json json
application/jsonl jsonl
application/ld+json jsonld
application/manifest+json webmanifest
application/mbox mbox
application/msword doc dot wiz
application/n-quads nq
application/n-triples nt
application/octet-stream bin a dll dylib exe o obj so
application/pdf pdf
application/pkcs7-mime p7c p7m
application/postscript ai eps ps
application/rdf+xml rdf
application/rtf rtf
application/sql sql
application/toml toml
application/trig trig
application/vnd.amazon.ebook azw
application/vnd.android.package-archive apk
application/vnd.apache.arrow.file arrow feather
application/vnd.apache.arrow.stream arrows
application/vnd.apache.avro avro
application/vnd.apache.parquet parquet
application/vnd.apple.mpegurl m3u m3u8
application/vnd.debian.binary-package deb
application/vnd.google-earth.kml+xml kml
application/vnd.google-earth.kmz kmz
application/vnd.ms-excel xls xlb xlt
application/vnd.ms-excel.sheet.binary.macroenabled.12 xlsb
application/vnd.ms-excel.sheet.macroenabled.12 xlsm
application/vnd.ms-fontobject eot
application/vnd.ms-outlook msg
application/vnd.ms-powerpoint ppt pot ppa pps pwz
application/vnd.ms-powerpoint.presentation.macroenabled.12 pptm
application/vnd.ms-word.document.macroenabled.12 docm
application/vnd.oasis.opendocument.graphics odg
application/vnd.oasis.opendocument.presentation odp
application/vnd.oasis.opendocument.spreadsheet ods
application/vnd.oasis.opendocument.text odt
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.openxmlformats-officedocument.presentationml.slideshow ppsx
application/vnd.openxmlformats-officedocument.presentationml.template potx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.spreadsheetml.template xltx
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/vnd.openxmlformats-officedocument.wordprocessingml.template dotx
application/vnd.rar rar
application/vnd.sqlite3 sqlite sqlite3
application/vnd.visio vsd
application/wasm wasm
application/x-7z-compressed 7z
application/x-apple-diskimage dmg
application/x-brotli br
application/x-bzip2 bz2 tbz2
application/x-compress z
application/x-hdf5 h5 hdf5
application/x-ipynb+json ipynb
application/x-iso9660-image iso
application/x-mobipocket-ebook mobi
application/x-ndjson ndjson
application/x-netcdf nc cdf
application/x-pkcs12 p12 pfx
application/x-python-code pyc pyo
application/x-rpm rpm
application/x-sh sh
application/x-shockwave-flash swf
application/x-subrip srt
application/x-tar tar
application/x-tex tex
application/x-x509-ca-cert crt der
application/x-xz xz txz
application/xhtml+xml xhtml
application/xslt+xml xslt
application/yaml yaml yml
application/zip zip
application/zstd zst
audio/aac aac adts
audio/aiff aif aifc aiff
audio/amr amr
audio/basic au snd
audio/flac flac
audio/matroska mka
audio/midi mid midi
audio/mp4 m4a m4b
audio/mpeg mp3 mp2
audio/ogg oga ogg spx
audio/opus opus
audio/wav wav
audio/webm weba
audio/x-ms-wma wma
font/collection ttc
font/otf otf
font/ttf ttf
font/woff woff
font/woff2 woff2
image/apng apng
image/avif avif
image/bmp bmp
image/emf emf
image/gif gif
image/heic heic
image/heif heif
image/jp2 jp2
image/jpeg jpg jpeg jpe jfif
image/jxl jxl
image/png png
image/svg+xml svg
image/tiff tif tiff
image/vnd.adobe.photoshop psd
image/vnd.djvu djvu
image/vnd.dxf dxf
image/vnd.microsoft.icon ico
image/webp webp
image/wmf wmf
image/x-adobe-dng dng
image/x-canon-cr2 cr2
image/x-canon-cr3 cr3
image/x-nikon-nef nef
image/x-portable-anymap pnm
image/x-portable-bitmap pbm
image/x-portable-graymap pgm
image/x-portable-pixmap ppm
image/x-sony-arw arw
message/rfc822 eml mht mhtml
model/3mf 3mf
model/gltf+json gltf
model/gltf-binary glb
model/stl stl
text/calendar ics
text/css css
text/csv csv
text/html html htm
text/javascript js mjs
text/markdown md markdown
text/n3 n3
text/plain txt text log bat c conf h ini ksh pl
text/tab-separated-values tsv
text/turtle ttl
text/vcard vcf
text/vtt vtt
text/x-diff diff patch
text/x-python py
text/x-rst rst
text/xml xml xsd xsl
video/3gpp 3gp 3gpp
video/3gpp2 3g2 3gpp2
video/matroska mkv
video/mp2t ts m2ts
video/mp4 mp4 mp4v
video/mpeg mpeg mpg mpe m1v m2v
video/ogg ogv
video/quicktime mov qt
video/webm webm
video/x-flv flv
video/x-m4v m4v
video/x-ms-wmv wmv
video/x-msvideo avi
"""
_TYPES = {
    f".{suffix}": kind
    for kind, *suffixes in map(str.split, _TABLE.strip().splitlines())
    for suffix in suffixes
}
_ENCODED_TYPES = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
    "zstd": "application/zstd",
}


def guess_content_type(filename: str) -> str:
    """Guess the media type from a filename. For `a.tar.gz` return gzip's type, not the type of the archive inside."""
    suffix = os.path.splitext(filename)[1].lower()  # noqa: PTH122 - a Path costs ten times as much
    if suffix in _TYPES:
        return _TYPES[suffix]
    # Make it a path: guess_type() would read "data:,x.png" as a URL, and fail on some other names.
    guess, encoding = mimetypes.guess_type(f"./{filename}")
    if encoding is not None:
        return _ENCODED_TYPES.get(encoding, UNKNOWN_TYPE)
    return guess or UNKNOWN_TYPE
