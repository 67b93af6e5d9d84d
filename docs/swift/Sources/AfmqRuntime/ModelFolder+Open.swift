import AfmqCoreAI
import AfmqCoreML
import AfmqGeneration
import Foundation

extension ModelFolder {
    /// Opens the model by the framework that runs it.
    func open(prefill: Bool) async throws -> any LanguageModel {
        switch kind {
        case .coreML:
            #if canImport(CoreML)
                return try await CoreMLModel.open(model, configuration: .init(prefill: prefill))
            #else
                throw UnsupportedFramework(name: "Core ML")
            #endif
        case .coreAI(let contextLength):
            #if canImport(CoreAI)
                if #available(macOS 27.0, iOS 27.0, *) {
                    return try await CoreAIModel.open(model, contextLength: contextLength)
                }
            #endif
            throw UnsupportedFramework(name: "Core AI")
        }
    }
}

/// A framework that this system, or the SDK of the build, lacks.
struct UnsupportedFramework: LocalizedError {
    let name: String

    var errorDescription: String? {
        "\(name) is not available; Core AI needs macOS 27 or iOS 27 and an SDK of that version"
    }
}
