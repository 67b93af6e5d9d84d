import Foundation
import Testing

@testable import AfmqGeneration

@Suite struct FileTests {
    /// A folder that exists for one test.
    private func withFolder(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder)
    }

    private func write(_ text: String = "", to path: String, in folder: URL) throws {
        let file = folder.appending(path: path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    @Test func coreMLPackages() throws {
        try withFolder { folder in
            try write(to: "m.mlpackage/Manifest.json", in: folder)
            try write(to: "tokenizer/tokenizer.json", in: folder)
            let package = folder.appending(path: "m.mlpackage")
            for url in [package, folder] {
                let found = try ModelFolder(url)
                #expect(found.kind == .coreML)
                #expect(found.model.lastPathComponent == "m.mlpackage")
                #expect(found.tokenizer.path == folder.appending(path: "tokenizer").path)
            }
            try write(to: "artifact/tokenizer.json", in: folder)
            let artifact = folder.appending(path: "artifact")
            #expect(try ModelFolder(package, tokenizer: artifact).tokenizer == artifact)
        }
    }

    @Test func coreAIBundles() throws {
        try withFolder { folder in
            let metadata = """
                {"metadata_version": "0.2", "kind": "llm", "name": "m",
                 "assets": {"main": "m.aimodel"},
                 "language": {"tokenizer": "m", "vocab_size": 3, "max_context_length": 2048}}
                """
            try write(metadata, to: "metadata.json", in: folder)
            try write(to: "tokenizer/tokenizer.json", in: folder)
            #expect(throws: ModelError.missing("m.aimodel", in: folder.path)) {
                try ModelFolder(folder)
            }
            try write(to: "m.aimodel/main.bin", in: folder)
            let found = try ModelFolder(folder)
            #expect(found.kind == .coreAI(contextLength: 2048))
            #expect(found.model.lastPathComponent == "m.aimodel")

            let other = metadata.replacing("0.2", with: "0.3")
            try write(other, to: "metadata.json", in: folder)
            #expect(throws: ModelError.self) { try ModelFolder(folder) }
        }
    }

    @Test func whatIsMissingIsNamed() throws {
        try withFolder { folder in
            #expect(throws: ModelError.missing("x", in: folder.path)) {
                try ModelFolder(folder.appending(path: "x"))
            }
            #expect(
                throws: ModelError.missing(
                    "Core ML package and no metadata.json", in: folder.path)
            ) {
                try ModelFolder(folder)
            }
            try write(to: "m.mlpackage/Manifest.json", in: folder)
            let tokenizer = folder.appending(path: "tokenizer").path
            #expect(throws: ModelError.missing("tokenizer.json", in: tokenizer)) {
                try ModelFolder(folder)
            }
        }
    }

    @Test func stopTokens() throws {
        try withFolder { folder in
            #expect(try StopTokens.read(from: folder) == [])
            try write(#"{"eos_token_id": 2, "vocab_size": 9}"#, to: "config.json", in: folder)
            #expect(try StopTokens.read(from: folder) == [2])
            try write(#"{"eos_token_id": [2, 7]}"#, to: "generation_config.json", in: folder)
            #expect(try StopTokens.read(from: folder) == [2, 7])
            try write(#"{"eos_token_id": null}"#, to: "generation_config.json", in: folder)
            #expect(try StopTokens.read(from: folder) == [2])
            try write(#"{"eos_token_id": "x"}"#, to: "config.json", in: folder)
            #expect(throws: (any Error).self) { try StopTokens.read(from: folder) }
        }
    }

    @Test func functionNames() throws {
        #expect(FunctionNames.name(FunctionNames.decode, adapter: nil) == "decode")
        #expect(FunctionNames.name(FunctionNames.prefill, adapter: "fr_CA") == "prefill_fr_CA")
        let names = ["decode", "prefill_b", "decode_b", "decode_a_b", "prefill", "decode_"]
        #expect(FunctionNames.adapters(of: "decode", among: names) == ["a_b", "b"])
        #expect(FunctionNames.adapters(of: "main", among: ["main"]) == [])

        let known = ["a-b", "fr_CA", "x___1"]
        #expect(try FunctionNames.find(nil, among: known) == nil)
        #expect(try FunctionNames.find("a-b", among: known) == "a-b")
        #expect(try FunctionNames.find("fr-CA", among: known) == "fr_CA")
        #expect(try FunctionNames.find("x.é 1", among: known) == "x___1")
        #expect(throws: ModelError.unknownAdapter("de", known: known)) {
            try FunctionNames.find("de", among: known)
        }
    }
}
